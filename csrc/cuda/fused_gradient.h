// The gradient of fused_network.h, from the last layer to the first in one launch. It finds the gradients of z; torch
// computes the gradients of matrices from them, which are sums over samples.
#pragma once
#include "cuda/cluster_sums.h"
#include "cuda/launch.h"

namespace fastunroll::cuda {

template <Precision P, int RowTiles, int Chunks, int Warps, int Blocks, int Split, bool WeightsInSmem>
class FusedGradient {
  static_assert(!WeightsInSmem, "each matrix is read once");
  static_assert(Split == 1, "every warp writes its own sums over samples");
  using Product = FusedProduct<P, RowTiles, Chunks, Warps, Blocks, Split>;
  using Fragment = typename Product::Fragment;
  using Stored = typename Product::Stored;
  // For amp: the squares of the residual of the layer below; and of this layer the nonzeros of x+, the gradient of the
  // scale of thresholds, and the product of the gradient of s+ with the residual.
  using RowSums = ClusterSums<Product, 4>;
  enum { squares_below, nonzeros_of_x, along_scale, along_residual };
  static constexpr int width = Product::width, rows = Product::samples;

 public:
  using Arguments = FusedBackward<Stored>;
  static constexpr int threads = Product::threads, cluster = Blocks, samples = rows, capacity = Product::capacity;

  static size_t shared_size(const FusedLayers<Stored>& p) {
    return (p.is_gradient_step ? Product::region_size(p.padded_m) : 0) + Product::region_size(p.padded_n) +
           (p.scheme == Scheme::amp ? RowSums::size : 0);
  }

  FASTUNROLL_DEVICE static void run(const Arguments& p) { FusedGradient(p).layers(); }

 private:
  const Arguments& p;
  const int64_t tile = block() / Blocks, first_sample = tile * rows;
  char* const region_n = shared();  // of the gradient of z
  char* const region_m = region_n + Product::region_size(p.padded_n);
  const RowSums sums_over_rows{region_m + Product::region_size(p.padded_m)};
  const bool is_amp = p.scheme == Scheme::amp;
  Fragment carried = {};     // fista: the gradient of x two layers below; admm, amp: the gradient of s
  float grad_gain = 0;       // of a layer, times the gain
  float scale[RowTiles][2];  // of thresholds; amp: |r| / sqrt(m)

  FASTUNROLL_DEVICE explicit FusedGradient(const Arguments& arguments) : p(arguments) {}

  FASTUNROLL_DEVICE const Stored* layer(const Stored* array, int k) const { return array + k * p.batch * p.n; }
  FASTUNROLL_DEVICE const Stored* x_before(int k) const { return k ? layer(p.x, k - 1) : p.x0; }

  // The gradient of a pair before P: (1 - theta / r) g + (theta / r) <u, g> u, u = x / |x|, r = |x| / gain + theta.
  FASTUNROLL_DEVICE float through_pair(float& a, float& b, float x, float y, float gain, float theta) const {
    const float size = square_root(fused_multiply_add(x, x, y * y));
    if (size == 0) {
      a = b = 0;
      return 0;
    }
    const float along = (a * x + b * y) / size, share = theta / (size / gain + theta);
    a = (1 - share) * a + share * along * (x / size);
    b = (1 - share) * b + share * along * (y / size);
    return along;
  }

  // From the gradient of x+ to that of z, a thread's columns of a row; that of theta is added to `grad_theta`, that of
  // the gain, times it, to `grad_gain`, that of the scale of thresholds to `grad_scale`.
  FASTUNROLL_DEVICE void through_prox(int k, float (&g)[width], const float (&x)[width], int column, float gain,
                                      float scaled, float (&grad_theta)[width], float& grad_scale) {
    FASTUNROLL_UNROLL for (int e = 0; e < width; ++e) {
      grad_gain = fused_multiply_add(g[e], x[e], grad_gain);
      g[e] *= gain;
    }
    if (p.prox_kind == ProxKind::identity || column >= p.padded_n) return;
    const float* const theta = p.theta + k * p.theta_stride + column / p.group;
    FASTUNROLL_UNROLL for (int e = 0; e < width; ++e) {
      float along = 0;
      if (p.group == 2) {
        if (e % 2 == 0) along = through_pair(g[e], g[e + 1], x[e], x[e + 1], gain, theta[e / 2] * scaled);
      } else {
        g[e] = x[e] == 0 ? 0.0f : g[e];
        along = p.prox_kind == ProxKind::soft && x[e] < 0 ? -g[e] : g[e];
      }
      grad_theta[e] -= along * scaled;
      grad_scale -= along * theta[e / p.group];
    }
  }

  // The gradient of z of layer k into `g`; `sums` is that of the input of the layer grad_v.
  FASTUNROLL_DEVICE void gradient_of_z(int k, typename Product::Sums& sums, Fragment& g) {
    const bool is_last = k + 1 == p.layers, is_fista = p.scheme == Scheme::fista && !is_last;
    const Stored* const grad_x = p.every_layer ? layer(p.grad, k) : is_last ? p.grad : nullptr;
    const bool is_admm = p.scheme == Scheme::admm;
    const float beta = is_fista ? p.beta[k + 1] : is_admm ? p.beta[k] : 0.0f, gain = p.gain ? p.gain[k] : 1.0f;
    float grad_beta = 0, nonzeros[RowTiles][2] = {}, grad_scale[RowTiles][2] = {};
    grad_gain = 0;
    FASTUNROLL_UNROLL for (int j = 0; j < Chunks; ++j) {
      const int column = Product::column_of(j);
      float grad_theta[width] = {};
      FASTUNROLL_UNROLL for (int i = 0; i < RowTiles; ++i) {
        FASTUNROLL_UNROLL for (int h = 0; h < 2; ++h) {
          const int row = Product::row_of(i, h);
          float x[width], before[width];
          read(layer(p.x, k), row, column, x);
          if (is_admm)  // z - x+
            Product::read(p.saved + k * p.batch * 2 * p.n + p.n, first_sample + row, p.batch, column, p.n, before, 2);
          else
            read(is_fista ? x_before(k) : nullptr, row, column, before);
          float (&own)[width] = g.at[i][j][h];
          read(grad_x, row, column, own);
          FASTUNROLL_UNROLL for (int e = 0; e < width; ++e) {
            const float grad_v = Product::in_fragment(sums, i, j, h, e);
            if (is_fista) {  // v = x + b (x - before)
              grad_beta = fused_multiply_add(grad_v, x[e] - before[e], grad_beta);
              own[e] += grad_v + beta * grad_v + carried.at[i][j][h][e];
              carried.at[i][j][h][e] = -beta * grad_v;
            } else {
              own[e] += grad_v;
            }
            if (is_admm) {  // v = x - s of the layer grad_v, and s+ = s + b (z - x+)
              float& grad_s = carried.at[i][j][h][e];
              grad_s -= grad_v;
              own[e] = fused_multiply_add(-beta, grad_s, own[e]);
              grad_beta = fused_multiply_add(grad_s, before[e], grad_beta);
            }
          }
          FASTUNROLL_UNROLL for (int e = 0; e < width; ++e) nonzeros[i][h] += x[e] != 0;
          through_prox(k, own, x, column, gain, scale[i][h], grad_theta, grad_scale[i][h]);
          if (is_admm) {  // x+ sees z + s
            FASTUNROLL_UNROLL for (int e = 0; e < width; ++e) {
              const float grad_s = carried.at[i][j][h][e];
              carried.at[i][j][h][e] += own[e];
              own[e] = fused_multiply_add(beta, grad_s, own[e]);
            }
          }
          store(p.grad_z + k * p.batch * p.n, row, column, own, p.n);
        }
      }
      if (p.grad_theta && column < p.padded_n) put_theta(k, column, grad_theta);
    }
    if (p.grad_beta && is_fista) put_sum(p.grad_beta, k + 1, grad_beta);
    if (p.grad_beta && is_admm) put_sum(p.grad_beta, k, grad_beta);
    if (!is_amp) return;
    sums_over_rows.share(nonzeros_of_x, nonzeros);
    sums_over_rows.share(along_scale, grad_scale);
    share_sums_of_residuals(k);
  }

  // Sums over rows: the residual of layer k times the gradient of s+, and the squares of the residual below.
  FASTUNROLL_DEVICE void share_sums_of_residuals(int k) const {
    float along[RowTiles][2] = {}, squares[RowTiles][2] = {};
    FASTUNROLL_UNROLL for (int i = 0; i < RowTiles; ++i) {
      FASTUNROLL_UNROLL for (int j = 0; j < Chunks; ++j) {
        FASTUNROLL_UNROLL for (int h = 0; h < 2; ++h) {
          float r[width], below[width];
          read_residual(k, i, j, h, r);
          read_residual(k - 1, i, j, h, below);
          FASTUNROLL_UNROLL for (int e = 0; e < width; ++e) {
            along[i][h] = fused_multiply_add(carried.at[i][j][h][e], r[e], along[i][h]);
            squares[i][h] = fused_multiply_add(below[e], below[e], squares[i][h]);
          }
        }
      }
    }
    sums_over_rows.share(along_residual, along);
    sums_over_rows.share(squares_below, squares);
  }
  FASTUNROLL_DEVICE void read_residual(int k, int i, int j, int h, float (&out)[width]) const {
    Product::read(k < 0 || k >= p.layers ? nullptr : p.saved + k * p.batch * p.m, first_sample + Product::row_of(i, h),
                  p.batch, Product::column_of(j), p.m, out);
  }

  // From W grad_z to the gradient of r, which is also that of y and of the layer's first s.
  FASTUNROLL_DEVICE void through_residual(int k, typename Product::Sums& sums) {
    const float gain = p.gain ? p.gain[k] : 1.0f;
    FASTUNROLL_UNROLL for (int i = 0; i < RowTiles; ++i) {
      FASTUNROLL_UNROLL for (int h = 0; h < 2; ++h) {
        const float share = gain * sums_over_rows.sum(nonzeros_of_x, i, h) / float(p.m);
        const float grad_scale = sums_over_rows.sum(along_scale, i, h);
        const float from_r = scale[i][h] == 0 ? 0.0f : grad_scale / (float(p.m) * scale[i][h]);
        if (cluster_rank<Blocks>() == 0 && warp() == 0 && lane() % 4 == 0)
          grad_gain = fused_multiply_add(share, sums_over_rows.sum(along_residual, i, h), grad_gain);
        FASTUNROLL_UNROLL for (int j = 0; j < Chunks; ++j) {
          float r[width];
          read_residual(k, i, j, h, r);
          FASTUNROLL_UNROLL for (int e = 0; e < width; ++e) {
            float& grad_s = carried.at[i][j][h][e];
            grad_s = fused_multiply_add(share, grad_s, Product::in_fragment(sums, i, j, h, e));
            grad_s = fused_multiply_add(from_r, r[e], grad_s);
            Product::in_fragment(sums, i, j, h, e) = grad_s;
          }
        }
        find_scale(i, h);
      }
    }
  }
  FASTUNROLL_DEVICE void find_scale(int i, int h) {
    scale[i][h] = square_root(sums_over_rows.sum(squares_below, i, h) / float(p.m));
  }

  // Writes the sum over the tile's samples. No other warp has these columns.
  FASTUNROLL_DEVICE void put_theta(int k, int column, const float (&own)[width]) const {
    FASTUNROLL_UNROLL for (int e = 0; e < width; ++e) {
      float sum = own[e];
      FASTUNROLL_UNROLL for (int bits = 4; bits < warp_size; bits *= 2) sum += shuffle_xor(sum, bits);
      if (lane() < 4) p.grad_theta[(tile * p.layers + k) * p.padded_n + column + e] = sum;
    }
  }

  // Writes a number for each warp of the cluster.
  FASTUNROLL_DEVICE void put_sum(float* out, int k, float sum) const {
    FASTUNROLL_UNROLL for (int bits = 1; bits < warp_size; bits *= 2) sum += shuffle_xor(sum, bits);
    const int64_t place = (tile * p.layers + k) * Blocks * Warps + cluster_rank<Blocks>() * Warps + warp();
    if (lane() == 0) out[place] = sum;
  }

  FASTUNROLL_DEVICE void read(const Stored* array, int row, int column, float (&out)[width]) const {
    Product::read(array, first_sample + row, p.batch, column, p.n, out);
  }
  FASTUNROLL_DEVICE void store(Stored* array, int row, int column, const float (&values)[width], int columns) const {
    Product::store(array, first_sample + row, p.batch, column, columns, values);
  }

  // The gradient of the layer's input, from that of z.
  FASTUNROLL_DEVICE void through_linear(int k, const Fragment& g, typename Product::Sums& sums) {
    Product::for_fragment([&](int i, int j, int h, int e) { Product::in_fragment(sums, i, j, h, e) = 0; });
    Product::share(region_n, p.padded_n, g);
    sync_cluster<Blocks>();
    const int outputs = p.is_gradient_step ? p.padded_m : p.padded_n;
    Product::add(sums, region_n, p.padded_n, p.first + k * p.first_stride, outputs, p.padded_n, 0, nullptr);
    if (!p.is_gradient_step) {
      sync_cluster<Blocks>();  // all blocks have read it
      return;
    }
    if (is_amp) through_residual(k, sums);
    const float* const step = p.step ? p.step + k * p.step_stride : nullptr;
    Fragment grad_Av;
    FASTUNROLL_UNROLL for (int i = 0; i < RowTiles; ++i) {
      FASTUNROLL_UNROLL for (int j = 0; j < Chunks; ++j) {
        const int column = Product::column_of(j);
        FASTUNROLL_UNROLL for (int h = 0; h < 2; ++h) {
          float own[width];
          FASTUNROLL_UNROLL for (int e = 0; e < width; ++e) {
            own[e] = Product::in_fragment(sums, i, j, h, e);
            grad_Av.at[i][j][h][e] = -own[e] * (step && column < p.padded_m ? step[column + e] : 1.0f);
            Product::in_fragment(sums, i, j, h, e) = g.at[i][j][h][e];
          }
          if (p.Wz) store(p.Wz + k * p.batch * p.m, Product::row_of(i, h), column, own, p.m);
        }
      }
    }
    Product::share(region_m, p.padded_m, grad_Av);
    sync_cluster<Blocks>();
    Product::add(sums, region_m, p.padded_m, p.second + k * p.second_stride, p.padded_n, p.padded_m, 0, nullptr);
  }

  FASTUNROLL_DEVICE void begin() {
    FASTUNROLL_UNROLL for (int i = 0; i < RowTiles; ++i) FASTUNROLL_UNROLL for (int h = 0; h < 2; ++h) scale[i][h] = 1;
    sync_cluster<Blocks>();  // all blocks have started, so their shared memory exists
    if (!is_amp) return;
    share_sums_of_residuals(p.layers);
    sync_cluster<Blocks>();
    FASTUNROLL_UNROLL for (int i = 0; i < RowTiles; ++i) FASTUNROLL_UNROLL for (int h = 0; h < 2; ++h) find_scale(i, h);
    sync_cluster<Blocks>();  // all blocks have read them
  }

  FASTUNROLL_DEVICE void layers() {
    begin();
    typename Product::Sums sums = {};
    FASTUNROLL_ROLLED for (int k = p.layers - 1; k >= 0; --k) {
      Fragment g;
      gradient_of_z(k, sums, g);
      if (k > 0 || p.grad_x0 || p.Wz || is_amp) through_linear(k, g, sums);
      if (p.grad_gain) put_sum(p.grad_gain, k, grad_gain);
    }
    if (!p.grad_x0) return;
    FASTUNROLL_UNROLL for (int i = 0; i < RowTiles; ++i) {
      FASTUNROLL_UNROLL for (int j = 0; j < Chunks; ++j) {
        FASTUNROLL_UNROLL for (int h = 0; h < 2; ++h) {
          float own[width];
          FASTUNROLL_UNROLL for (int e = 0; e < width; ++e) own[e] =
              Product::in_fragment(sums, i, j, h, e) + (p.scheme == Scheme::fista ? carried.at[i][j][h][e] : 0.0f);
          store(p.grad_x0, Product::row_of(i, h), Product::column_of(j), own, p.n);
        }
      }
    }
  }
};

}  // namespace fastunroll::cuda
