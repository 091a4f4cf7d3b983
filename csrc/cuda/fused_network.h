// All layers of a network in one launch. A cluster of blocks computes some samples. Each block holds their whole
// iterate in its shared memory, computes a part of the next iterate, and writes it to the shared memory of all blocks.
#pragma once
#include "cuda/cluster_sums.h"
#include "cuda/launch.h"

namespace fastunroll::cuda {

// WeightsInSmem: shared memory holds the matrices, which all layers share.
template <Precision P, int RowTiles, int Chunks, int Warps, int Blocks, int Split, bool WeightsInSmem>
class FusedNetwork {
  using Product = FusedProduct<P, RowTiles, Chunks, Warps, Blocks, Split>;
  using Fragment = typename Product::Fragment;
  using Sums = ClusterSums<Product, 2>;  // squares of the residual and nonzeros: one is read while the other is written
  enum { squares_of_residual, nonzeros_of_x };
  using Stored = typename Product::Stored;
  static constexpr int width = Product::width, rows = Product::samples;

 public:
  using Arguments = Fused<Stored>;
  static constexpr int threads = Product::threads, cluster = Blocks, samples = rows, capacity = Product::capacity;

  static size_t shared_size(const FusedLayers<Stored>& p) {
    if (WeightsInSmem && (p.first_stride || p.second_stride)) return 0;
    const size_t regions = Product::region_size(p.padded_m) + Product::region_size(p.padded_n);
    const size_t kept =
        WeightsInSmem ? first_smem_size(p) + (p.is_gradient_step ? Product::smem_size(p.padded_n, p.padded_m) : 0) : 0;
    return regions + Product::exchange_size + (p.scheme == Scheme::amp ? Sums::size : 0) + kept;
  }

  FASTUNROLL_DEVICE static void run(const Arguments& p) { FusedNetwork(p).layers(); }

 private:
  // The bytes of the matrix by which v is multiplied.
  FASTUNROLL_ANYWHERE static size_t first_smem_size(const FusedLayers<Stored>& p) {
    return Product::smem_size(p.is_gradient_step ? p.padded_m : p.padded_n, p.padded_n);
  }

  const Arguments& p;
  const int64_t first_sample = int64_t(block() / Blocks) * rows;
  char* const region_m = shared();                                     // of y, or of the scaled residual
  char* const region_n = region_m + Product::region_size(p.padded_m);  // of v
  char* const exchange = region_n + Product::region_size(p.padded_n);
  char* const of_sums = exchange + Product::exchange_size;
  const Sums sums_over_rows{of_sums};
  char* const first_in_smem = of_sums + (p.scheme == Scheme::amp ? Sums::size : 0);
  char* const second_in_smem = first_in_smem + (WeightsInSmem ? first_smem_size(p) : 0);
  Fragment v, s;  // the layer's input; the second state (fista: x before)
  Fragment base;  // gradient steps: y; affine steps: W1 y if all layers share it

  FASTUNROLL_DEVICE explicit FusedNetwork(const Arguments& arguments) : p(arguments) {}

  // An element of an array (batch, columns), which may be null; zero beyond it.
  FASTUNROLL_DEVICE float element(const Stored* array, int row, int column, int columns) const {
    const int64_t sample = first_sample + row;
    return array && sample < p.batch && column < columns ? value_of(array[sample * columns + column]) : 0.0f;
  }

  FASTUNROLL_DEVICE float start_of(int row, int column) const {
    const float x = element(p.x0, row, column, p.n);
    if (p.scheme == Scheme::admm) return x - element(p.s0, row, column, p.n);
    if (p.scheme == Scheme::fista && p.s0) return fused_multiply_add(p.beta[0], x - element(p.s0, row, column, p.n), x);
    return x;
  }

  FASTUNROLL_DEVICE bool starts_at_zero() const { return !p.x0 && (!p.s0 || p.scheme == Scheme::amp); }

  FASTUNROLL_DEVICE void begin() {
    const bool is_amp = p.scheme == Scheme::amp;
    if (!p.is_gradient_step)
      Product::fill(region_m, p.padded_m, [&](int row, int column) { return element(p.y, row, column, p.m); });
    Product::fill(region_n, p.padded_n, [&](int row, int column) { return start_of(row, column); });
    Product::for_fragment([&](int i, int j, int h, int e) {
      const int row = Product::row_of(i, h), column = Product::column_of(j) + e;
      v.at[i][j][h][e] = start_of(row, column);
      base.at[i][j][h][e] = p.is_gradient_step ? element(p.y, row, column, p.m) : 0.0f;
      s.at[i][j][h][e] =
          p.scheme == Scheme::fista ? element(p.x0, row, column, p.n) : element(p.s0, row, column, is_amp ? p.m : p.n);
    });
    if constexpr (WeightsInSmem) {
      const int outputs = p.is_gradient_step ? p.padded_m : p.padded_n, before = p.is_gradient_step ? 0 : p.padded_m;
      Product::copy_to_smem(first_in_smem, p.padded_n, p.first, outputs, before + p.padded_n, before);
      if (p.is_gradient_step) Product::copy_to_smem(second_in_smem, p.padded_m, p.second, p.padded_n, p.padded_m, 0);
    }
    sync_cluster<Blocks>();
  }

  // sums += v x first; its columns for v begin after `before` others.
  FASTUNROLL_DEVICE void add_first(int k, typename Product::Sums& sums, int outputs, int before) {
    if constexpr (WeightsInSmem)
      Product::add_from_smem(sums, region_n, p.padded_n, first_in_smem, outputs, exchange);
    else
      Product::add(sums, region_n, p.padded_n, p.first + k * p.first_stride, outputs, before + p.padded_n, before,
                   exchange);
  }
  // sums += the scaled residual x second.
  FASTUNROLL_DEVICE void add_second(int k, typename Product::Sums& sums) {
    if constexpr (WeightsInSmem)
      Product::add_from_smem(sums, region_m, p.padded_m, second_in_smem, p.padded_n, exchange);
    else
      Product::add(sums, region_m, p.padded_m, p.second + k * p.second_stride, p.padded_n, p.padded_m, 0, exchange);
  }

  // z = W1 y + W2 v
  FASTUNROLL_DEVICE void affine_step(int k, typename Product::Sums& sums) {
    const Stored* const weights = p.first + k * p.first_stride;
    const int stride = p.padded_m + p.padded_n;
    const bool constant = p.first_stride == 0;
    if (!constant || k == 0) {
      Product::add(sums, region_m, p.padded_m, weights, p.padded_n, stride, 0, exchange);
      Product::for_fragment(
          [&](int i, int j, int h, int e) { base.at[i][j][h][e] = Product::in_fragment(sums, i, j, h, e); });
    } else {
      Product::for_fragment(
          [&](int i, int j, int h, int e) { Product::in_fragment(sums, i, j, h, e) = base.at[i][j][h][e]; });
    }
    if (k > 0 || !starts_at_zero()) add_first(k, sums, p.padded_n, p.padded_m);
    sync_cluster<Blocks>();  // all blocks have read v
  }

  // z = v + W^T (step r). For amp s becomes r, of which the next s is a multiple.
  FASTUNROLL_DEVICE void gradient_step(int k, typename Product::Sums& sums, float (&scale)[RowTiles][2]) {
    const bool is_amp = p.scheme == Scheme::amp;
    if (k > 0 || !starts_at_zero()) add_first(k, sums, p.padded_m, 0);
    const float* const step = p.step ? p.step + k * p.step_stride : nullptr;
    Fragment scaled;
    float squares[RowTiles][2] = {};
    Product::for_fragment([&](int i, int j, int h, int e) {
      const int column = Product::column_of(j) + e;
      float r = base.at[i][j][h][e] - Product::in_fragment(sums, i, j, h, e);
      if (is_amp) {
        r += s.at[i][j][h][e];
        s.at[i][j][h][e] = r;
        squares[i][h] = fused_multiply_add(r, r, squares[i][h]);
      }
      scaled.at[i][j][h][e] = step && column < p.padded_m ? r * step[column] : r;
    });
    Product::share(region_m, p.padded_m, scaled);
    if (is_amp) {
      sums_over_rows.share(squares_of_residual, squares);
      save_residual(k);
    }
    sync_cluster<Blocks>();  // the residual is complete, and all blocks have read v
    FASTUNROLL_UNROLL for (int i = 0; i < RowTiles; ++i) FASTUNROLL_UNROLL for (int h = 0; h < 2; ++h) scale[i][h] =
        is_amp ? square_root(sums_over_rows.sum(squares_of_residual, i, h) / float(p.m)) : 1.0f;
    Product::for_fragment(
        [&](int i, int j, int h, int e) { Product::in_fragment(sums, i, j, h, e) = v.at[i][j][h][e]; });
    add_second(k, sums);
  }

  // P of one element.
  FASTUNROLL_DEVICE float shrunk(float value, float theta) const {
    if (p.prox_kind == ProxKind::identity) return value;
    const bool soft = p.prox_kind == ProxKind::soft;
    const float size = soft ? magnitude(value) : value, limit = soft && theta < 0 ? 0.0f : theta;
    return size - limit <= 0 ? 0.0f : soft ? with_sign(size - theta, value) : size - theta;
  }
  FASTUNROLL_DEVICE void shrink_pair(float& a, float& b, float theta) const {
    const float size = square_root(fused_multiply_add(a, a, b * b)), limit = theta < 0 ? 0.0f : theta;
    const bool zero = size - limit <= 0;  // false if one is NaN, or both are infinite
    const float factor = zero ? 0.0f : (size - theta) / size;
    a = zero ? 0.0f : a * factor;
    b = zero ? 0.0f : b * factor;
  }

  FASTUNROLL_DEVICE void prox(int k, float (&u)[width], int column, float scale) const {
    const float* const theta = p.theta ? p.theta + k * p.theta_stride + column / p.group : nullptr;
    const float gain = p.gain ? p.gain[k] : 1.0f;
    if (p.group == 2 && theta) {
      FASTUNROLL_UNROLL for (int e = 0; e < width; e += 2) shrink_pair(u[e], u[e + 1], theta[e / 2] * scale);
    } else if (theta) {
      FASTUNROLL_UNROLL for (int e = 0; e < width; ++e) u[e] = shrunk(u[e], theta[e] * scale);
    }
    FASTUNROLL_UNROLL for (int e = 0; e < width; ++e) u[e] *= gain;
  }

  FASTUNROLL_DEVICE void store(Stored* array, int row, int column, const float (&values)[width], int columns,
                               int step = 1) const {
    if (Product::is_writer()) Product::store(array, first_sample + row, p.batch, column, columns, values, step);
  }

  FASTUNROLL_DEVICE void save_residual(int k) const {
    if (!p.saved) return;
    FASTUNROLL_UNROLL for (int i = 0; i < RowTiles; ++i) {
      FASTUNROLL_UNROLL for (int j = 0; j < Chunks; ++j) {
        FASTUNROLL_UNROLL for (int h = 0; h < 2; ++h)
            store(p.saved + k * p.batch * p.m, Product::row_of(i, h), Product::column_of(j), s.at[i][j][h], p.m);
      }
    }
  }

  // Saves v and z - x+ of admm, one after the other.
  FASTUNROLL_DEVICE void save(int k, int row, int column, const float (&input)[width], const float (&z)[width],
                              const float (&x)[width]) const {
    if (!p.saved) return;
    Stored* const saved = p.saved + k * p.batch * 2 * p.n;
    float dual_residual[width];
    FASTUNROLL_UNROLL for (int e = 0; e < width; ++e) dual_residual[e] = z[e] - x[e];
    store(saved, row, column, input, p.n, 2);
    store(saved + p.n, row, column, dual_residual, p.n, 2);
  }

  FASTUNROLL_DEVICE void layers() {
    begin();
    FASTUNROLL_ROLLED for (int k = 0; k < p.layers; ++k) {
      typename Product::Sums sums = {};
      float scale[RowTiles][2] = {};
      if (p.is_gradient_step)
        gradient_step(k, sums, scale);
      else
        affine_step(k, sums);
      end_layer(k, sums, scale);
    }
  }

  FASTUNROLL_DEVICE void end_layer(int k, typename Product::Sums& sums, const float (&scale)[RowTiles][2]) {
    const bool last = k + 1 == p.layers;
    Stored* const x = p.x ? p.x + k * p.batch * p.n : nullptr;
    float nonzeros[RowTiles][2] = {};
    FASTUNROLL_UNROLL for (int i = 0; i < RowTiles; ++i) {
      FASTUNROLL_UNROLL for (int j = 0; j < Chunks; ++j) {
        const int column = Product::column_of(j);
        if (column >= p.padded_n) continue;
        FASTUNROLL_UNROLL for (int h = 0; h < 2; ++h) {
          keep_order();
          float (&own_v)[width] = v.at[i][j][h];
          float (&own_s)[width] = s.at[i][j][h];
          float u[width], z[width];
          FASTUNROLL_UNROLL for (int e = 0; e < width; ++e) {
            z[e] = Product::in_fragment(sums, i, j, h, e);
            u[e] = p.scheme == Scheme::admm ? z[e] + own_s[e] : z[e];
          }
          prox(k, u, column, p.is_gradient_step ? scale[i][h] : 1.0f);
          store(x, Product::row_of(i, h), column, u, p.n);
          if (last) store(p.last, Product::row_of(i, h), column, u, p.n);
          if (p.scheme == Scheme::admm) save(k, Product::row_of(i, h), column, own_v, z, u);
          FASTUNROLL_UNROLL for (int e = 0; e < width; ++e) {
            nonzeros[i][h] += u[e] != 0;
            own_v[e] = u[e];
            if (p.scheme == Scheme::admm) {
              own_s[e] = fused_multiply_add(p.beta[k], z[e] - u[e], own_s[e]);
              own_v[e] = u[e] - own_s[e];
            } else if (p.scheme == Scheme::fista) {
              if (!last) {
                own_v[e] = fused_multiply_add(p.beta[k + 1], u[e] - own_s[e], u[e]);
                own_s[e] = u[e];
              }
            }
          }
          if (last && p.scheme != Scheme::amp) store(p.s, Product::row_of(i, h), column, own_s, p.n);
        }
      }
    }
    if (!last) Product::share(region_n, p.padded_n, v);
    if (p.scheme == Scheme::amp) {
      sums_over_rows.share(nonzeros_of_x, nonzeros);
      sync_cluster<Blocks>();
      correct(k, last);
    } else if (!last) {
      sync_cluster<Blocks>();
    }
  }

  // s = gain |x+|_0 / m r
  FASTUNROLL_DEVICE void correct(int k, bool last) {
    const float gain = p.gain ? p.gain[k] : 1.0f;
    FASTUNROLL_UNROLL for (int i = 0; i < RowTiles; ++i) {
      FASTUNROLL_UNROLL for (int h = 0; h < 2; ++h) {
        const float share = gain * sums_over_rows.sum(nonzeros_of_x, i, h) / float(p.m);
        FASTUNROLL_UNROLL for (int j = 0; j < Chunks; ++j) {
          FASTUNROLL_UNROLL for (int e = 0; e < width; ++e) s.at[i][j][h][e] *= share;
          if (last) store(p.s, Product::row_of(i, h), Product::column_of(j), s.at[i][j][h], p.m);
        }
      }
    }
  }
};

}  // namespace fastunroll::cuda
