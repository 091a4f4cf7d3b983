// The gradient of fused_network.h, from the last layer to the first in one launch: the chain of products that each
// layer's gradient is. Those of matrices are sums over samples, which the library that has the tensors forms from it.
#pragma once
#include "cuda/cluster_sums.h"
#include "cuda/launch.h"

namespace fastunroll::cuda {

template <Precision P, int Tall, int Chunks, int Warps, int Blocks, int Split, bool Keeps> class FusedGradient {
  static_assert(!Keeps, "each matrix is read once");
  static_assert(Split == 1, "sums over samples are left by every warp");
  using Product = FusedProduct<P, Tall, Chunks, Warps, Blocks, Split>;
  using Own = typename Product::Own;
  using Stored = typename Product::Stored;
  // Onsager's: squares of the residual of the layer below; of this one nonzeros, what reaches the scale of its
  // thresholds, and the gradient of s+ along the residual.
  using RowSums = ClusterSums<Product, 4>;
  enum { squares_below, nonzeros_of_x, along_scale, along_residual };
  static constexpr int width = Product::width, rows = Product::samples;

 public:
  using Arguments = FusedBackward<Stored>;
  static constexpr int threads = Product::threads, cluster = Blocks, samples = rows, capacity = Product::capacity;

  static size_t shared_size(const FusedLayers<Stored>& p) {
    return (p.coupled ? Product::region_size(p.padded_m) : 0) + Product::region_size(p.padded_n) +
           (p.state == State::onsager ? RowSums::size : 0);
  }

  FASTUNROLL_DEVICE static void run(const Arguments& p) { FusedGradient(p).layers(); }

 private:
  const Arguments& p;
  const int64_t tile = block() / Blocks, first_sample = tile * rows;
  char* const region_n = shared();  // of the gradient of z
  char* const region_m = region_n + Product::region_size(p.padded_n);
  const RowSums sums_over_rows{region_m + Product::region_size(p.padded_m)};
  const bool onsager = p.state == State::onsager;
  Own carried = {};      // momentum: what reaches x two layers down; splitting and Onsager: the gradient of s
  float to_gain = 0;     // of a layer, times it
  float scale[Tall][2];  // of thresholds; Onsager: |r| / sqrt(m)

  FASTUNROLL_DEVICE explicit FusedGradient(const Arguments& arguments) : p(arguments) {}

  FASTUNROLL_DEVICE const Stored* layer(const Stored* array, int k) const { return array + k * p.batch * p.n; }
  FASTUNROLL_DEVICE const Stored* x_before(int k) const { return k ? layer(p.x, k - 1) : p.x0; }

  // Behind a pair of norm r = |x| / gain + theta, with u = x / |x|: (1 - theta / r) g + (theta / r) <u, g> u.
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

  // From the gradient of x+ to that of z, a thread's columns of a row; that of theta is added to `to_theta`, that of
  // the gain, times it, to `to_gain`, that of the scale of thresholds to `to_scale`.
  FASTUNROLL_DEVICE void through_prox(int k, float (&g)[width], const float (&x)[width], int column, float gain,
                                      float scaled, float (&to_theta)[width], float& to_scale) {
    FASTUNROLL_UNROLL for (int e = 0; e < width; ++e) {
      to_gain = fused_multiply_add(g[e], x[e], to_gain);
      g[e] *= gain;
    }
    if (p.shrinkage == Shrinkage::none || column >= p.padded_n) return;
    const float* const theta = p.theta + k * p.theta_stride + column / p.group;
    FASTUNROLL_UNROLL for (int e = 0; e < width; ++e) {
      float along = 0;
      if (p.group == 2) {
        if (e % 2 == 0) along = through_pair(g[e], g[e + 1], x[e], x[e + 1], gain, theta[e / 2] * scaled);
      } else {
        g[e] = x[e] == 0 ? 0.0f : g[e];
        along = p.shrinkage == Shrinkage::soft && x[e] < 0 ? -g[e] : g[e];
      }
      to_theta[e] -= along * scaled;
      to_scale -= along * theta[e / p.group];
    }
  }

  // The gradient of z of layer k into `g`; `sums` is that of the input of the layer above.
  FASTUNROLL_DEVICE void gradient_of_z(int k, typename Product::Sums& sums, Own& g) {
    const bool top = k + 1 == p.layers, momentum = p.state == State::momentum && !top;
    const Stored* const entering = p.every_layer ? layer(p.grad, k) : top ? p.grad : nullptr;
    const bool splitting = p.state == State::splitting;
    const float blend = momentum ? p.blend[k + 1] : splitting ? p.blend[k] : 0.0f, gain = p.gain ? p.gain[k] : 1.0f;
    float to_blend = 0, nonzeros[Tall][2] = {}, to_scale[Tall][2] = {};
    to_gain = 0;
    FASTUNROLL_UNROLL for (int j = 0; j < Chunks; ++j) {
      const int column = Product::column_of(j);
      float to_theta[width] = {};
      FASTUNROLL_UNROLL for (int i = 0; i < Tall; ++i) {
        FASTUNROLL_UNROLL for (int h = 0; h < 2; ++h) {
          const int row = Product::row_of(i, h);
          float x[width], before[width];
          read(layer(p.x, k), row, column, x);
          if (splitting)  // z - x+
            Product::read(p.trace + k * p.batch * 2 * p.n + p.n, first_sample + row, p.batch, column, p.n, before, 2);
          else
            read(momentum ? x_before(k) : nullptr, row, column, before);
          float (&own)[width] = g.at[i][j][h];
          read(entering, row, column, own);
          FASTUNROLL_UNROLL for (int e = 0; e < width; ++e) {
            const float above = Product::of_own(sums, i, j, h, e);
            if (momentum) {  // v = x + b (x - before)
              to_blend = fused_multiply_add(above, x[e] - before[e], to_blend);
              own[e] += above + blend * above + carried.at[i][j][h][e];
              carried.at[i][j][h][e] = -blend * above;
            } else {
              own[e] += above;
            }
            if (splitting) {  // v = x - s of the layer above, and s+ = s + b (z - x+)
              float& of_s = carried.at[i][j][h][e];
              of_s -= above;
              own[e] = fused_multiply_add(-blend, of_s, own[e]);
              to_blend = fused_multiply_add(of_s, before[e], to_blend);
            }
          }
          FASTUNROLL_UNROLL for (int e = 0; e < width; ++e) nonzeros[i][h] += x[e] != 0;
          through_prox(k, own, x, column, gain, scale[i][h], to_theta, to_scale[i][h]);
          if (splitting) {  // x+ sees z + s
            FASTUNROLL_UNROLL for (int e = 0; e < width; ++e) {
              const float of_s = carried.at[i][j][h][e];
              carried.at[i][j][h][e] += own[e];
              own[e] = fused_multiply_add(blend, of_s, own[e]);
            }
          }
          store(p.dz + k * p.batch * p.n, row, column, own, p.n);
        }
      }
      if (p.to_theta && column < p.padded_n) put_theta(k, column, to_theta);
    }
    if (p.to_blend && momentum) put_sum(p.to_blend, k + 1, to_blend);
    if (p.to_blend && splitting) put_sum(p.to_blend, k, to_blend);
    if (!onsager) return;
    sums_over_rows.share(nonzeros_of_x, nonzeros);
    sums_over_rows.share(along_scale, to_scale);
    share_sums_of_residuals(k);
  }

  // Of layer k along the gradient of s+, and the squares of that of the layer below.
  FASTUNROLL_DEVICE void share_sums_of_residuals(int k) const {
    float along[Tall][2] = {}, squares[Tall][2] = {};
    FASTUNROLL_UNROLL for (int i = 0; i < Tall; ++i) {
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
    Product::read(k < 0 || k >= p.layers ? nullptr : p.trace + k * p.batch * p.m, first_sample + Product::row_of(i, h),
                  p.batch, Product::column_of(j), p.m, out);
  }

  // From h = W g to the gradient of r, which is also that of y, and of the s that the layer started from.
  FASTUNROLL_DEVICE void through_residual(int k, typename Product::Sums& sums) {
    const float gain = p.gain ? p.gain[k] : 1.0f;
    FASTUNROLL_UNROLL for (int i = 0; i < Tall; ++i) {
      FASTUNROLL_UNROLL for (int h = 0; h < 2; ++h) {
        const float share = gain * sums_over_rows.sum(nonzeros_of_x, i, h) / float(p.m);
        const float to_scale = sums_over_rows.sum(along_scale, i, h);
        const float pull = scale[i][h] == 0 ? 0.0f : to_scale / (float(p.m) * scale[i][h]);
        if (cluster_rank<Blocks>() == 0 && warp() == 0 && lane() % 4 == 0)
          to_gain = fused_multiply_add(share, sums_over_rows.sum(along_residual, i, h), to_gain);
        FASTUNROLL_UNROLL for (int j = 0; j < Chunks; ++j) {
          float r[width];
          read_residual(k, i, j, h, r);
          FASTUNROLL_UNROLL for (int e = 0; e < width; ++e) {
            float& of_s = carried.at[i][j][h][e];
            of_s = fused_multiply_add(share, of_s, Product::of_own(sums, i, j, h, e));
            of_s = fused_multiply_add(pull, r[e], of_s);
            Product::of_own(sums, i, j, h, e) = of_s;
          }
        }
        find_scale(i, h);
      }
    }
  }
  FASTUNROLL_DEVICE void find_scale(int i, int h) {
    scale[i][h] = square_root(sums_over_rows.sum(squares_below, i, h) / float(p.m));
  }

  // The sum over the tile's samples, which this warp alone has for its columns.
  FASTUNROLL_DEVICE void put_theta(int k, int column, const float (&own)[width]) const {
    FASTUNROLL_UNROLL for (int e = 0; e < width; ++e) {
      float sum = own[e];
      FASTUNROLL_UNROLL for (int bits = 4; bits < warp_size; bits *= 2) sum += shuffle_xor(sum, bits);
      if (lane() < 4) p.to_theta[(tile * p.layers + k) * p.padded_n + column + e] = sum;
    }
  }

  // A number for each warp of the cluster.
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
  FASTUNROLL_DEVICE void through_linear(int k, const Own& g, typename Product::Sums& sums) {
    Product::for_own([&](int i, int j, int h, int e) { Product::of_own(sums, i, j, h, e) = 0; });
    Product::share(region_n, p.padded_n, g);
    sync_cluster<Blocks>();
    const int outputs = p.coupled ? p.padded_m : p.padded_n;
    Product::add(sums, region_n, p.padded_n, p.first + k * p.first_stride, outputs, p.padded_n, 0, nullptr);
    if (!p.coupled) {
      sync_cluster<Blocks>();  // all have read it
      return;
    }
    if (onsager) through_residual(k, sums);
    const float* const step = p.step ? p.step + k * p.step_stride : nullptr;
    Own minus;
    FASTUNROLL_UNROLL for (int i = 0; i < Tall; ++i) {
      FASTUNROLL_UNROLL for (int j = 0; j < Chunks; ++j) {
        const int column = Product::column_of(j);
        FASTUNROLL_UNROLL for (int h = 0; h < 2; ++h) {
          float own[width];
          FASTUNROLL_UNROLL for (int e = 0; e < width; ++e) {
            own[e] = Product::of_own(sums, i, j, h, e);
            minus.at[i][j][h][e] = -own[e] * (step && column < p.padded_m ? step[column + e] : 1.0f);
            Product::of_own(sums, i, j, h, e) = g.at[i][j][h][e];
          }
          if (p.h) store(p.h + k * p.batch * p.m, Product::row_of(i, h), column, own, p.m);
        }
      }
    }
    Product::share(region_m, p.padded_m, minus);
    sync_cluster<Blocks>();
    Product::add(sums, region_m, p.padded_m, p.second + k * p.second_stride, p.padded_n, p.padded_m, 0, nullptr);
  }

  FASTUNROLL_DEVICE void begin() {
    FASTUNROLL_UNROLL for (int i = 0; i < Tall; ++i) FASTUNROLL_UNROLL for (int h = 0; h < 2; ++h) scale[i][h] = 1;
    sync_cluster<Blocks>();  // all blocks are there, and so is their shared memory
    if (!onsager) return;
    share_sums_of_residuals(p.layers);
    sync_cluster<Blocks>();
    FASTUNROLL_UNROLL for (int i = 0; i < Tall; ++i) FASTUNROLL_UNROLL for (int h = 0; h < 2; ++h) find_scale(i, h);
    sync_cluster<Blocks>();  // all have read them
  }

  FASTUNROLL_DEVICE void layers() {
    begin();
    typename Product::Sums sums = {};
    FASTUNROLL_ROLLED for (int k = p.layers - 1; k >= 0; --k) {
      Own g;
      gradient_of_z(k, sums, g);
      if (k > 0 || p.to_start || p.h || onsager) through_linear(k, g, sums);
      if (p.to_gain) put_sum(p.to_gain, k, to_gain);
    }
    if (!p.to_start) return;
    FASTUNROLL_UNROLL for (int i = 0; i < Tall; ++i) {
      FASTUNROLL_UNROLL for (int j = 0; j < Chunks; ++j) {
        FASTUNROLL_UNROLL for (int h = 0; h < 2; ++h) {
          float own[width];
          FASTUNROLL_UNROLL for (int e = 0; e < width; ++e) own[e] =
              Product::of_own(sums, i, j, h, e) + (p.state == State::momentum ? carried.at[i][j][h][e] : 0.0f);
          store(p.to_start, Product::row_of(i, h), Product::column_of(j), own, p.n);
        }
      }
    }
  }
};

}  // namespace fastunroll::cuda
