// All layers of a network in one launch. A cluster of blocks owns some samples: each block has the whole iterate of
// them in its shared memory, makes a part of the next one, and gives it to the others.
#pragma once
#include "cuda/cluster_sums.h"
#include "cuda/launch.h"

namespace fastunroll::cuda {

// Keeps: the matrices, which all layers share, in shared memory.
template <Precision P, int Tall, int Chunks, int Warps, int Blocks, int Split, bool Keeps> class FusedNetwork {
  using Product = FusedProduct<P, Tall, Chunks, Warps, Blocks, Split>;
  using Own = typename Product::Own;
  using Sums = ClusterSums<Product, 2>;  // squares of the residual and nonzeros: one is read while the other is written
  enum { squares_of_residual, nonzeros_of_x };
  using Stored = typename Product::Stored;
  static constexpr int width = Product::width, rows = Product::samples;

 public:
  using Arguments = Fused<Stored>;
  static constexpr int threads = Product::threads, cluster = Blocks, samples = rows, capacity = Product::capacity;

  static size_t shared_size(const FusedLayers<Stored>& p) {
    if (Keeps && (p.first_stride || p.second_stride)) return 0;
    const size_t regions = Product::region_size(p.padded_m) + Product::region_size(p.padded_n);
    const size_t kept = Keeps ? kept_first(p) + (p.coupled ? Product::kept_size(p.padded_n, p.padded_m) : 0) : 0;
    return regions + Product::exchange_size + (p.state == State::onsager ? Sums::size : 0) + kept;
  }

  FASTUNROLL_DEVICE static void run(const Arguments& p) { FusedNetwork(p).layers(); }

 private:
  // Of what v is multiplied by.
  FASTUNROLL_ANYWHERE static size_t kept_first(const FusedLayers<Stored>& p) {
    return Product::kept_size(p.coupled ? p.padded_m : p.padded_n, p.padded_n);
  }

  const Arguments& p;
  const int64_t first_sample = int64_t(block() / Blocks) * rows;
  char* const region_m = shared();                                     // of y, or of the scaled residual
  char* const region_n = region_m + Product::region_size(p.padded_m);  // of v
  char* const exchange = region_n + Product::region_size(p.padded_n);
  char* const of_sums = exchange + Product::exchange_size;
  const Sums sums_over_rows{of_sums};
  char* const first_kept = of_sums + (p.state == State::onsager ? Sums::size : 0);
  char* const second_kept = first_kept + (Keeps ? kept_first(p) : 0);
  Own v, s;  // the layer's input; the second state (momentum: x before)
  Own base;  // coupled: y; direct: W1 y where it is the same in all layers

  FASTUNROLL_DEVICE explicit FusedNetwork(const Arguments& arguments) : p(arguments) {}

  // Of an array of (batch, columns) that may be missing; zero beyond it.
  FASTUNROLL_DEVICE float element(const Stored* array, int row, int column, int columns) const {
    const int64_t sample = first_sample + row;
    return array && sample < p.batch && column < columns ? value_of(array[sample * columns + column]) : 0.0f;
  }

  FASTUNROLL_DEVICE float start_of(int row, int column) const {
    const float x = element(p.x0, row, column, p.n);
    if (p.state == State::splitting) return x - element(p.s0, row, column, p.n);
    if (p.state == State::momentum && p.s0)
      return fused_multiply_add(p.blend[0], x - element(p.s0, row, column, p.n), x);
    return x;
  }

  FASTUNROLL_DEVICE bool starts_at_zero() const { return !p.x0 && (!p.s0 || p.state == State::onsager); }

  FASTUNROLL_DEVICE void begin() {
    const bool correction = p.state == State::onsager;
    if (!p.coupled)
      Product::fill(region_m, p.padded_m, [&](int row, int column) { return element(p.y, row, column, p.m); });
    Product::fill(region_n, p.padded_n, [&](int row, int column) { return start_of(row, column); });
    Product::for_own([&](int i, int j, int h, int e) {
      const int row = Product::row_of(i, h), column = Product::column_of(j) + e;
      v.at[i][j][h][e] = start_of(row, column);
      base.at[i][j][h][e] = p.coupled ? element(p.y, row, column, p.m) : 0.0f;
      s.at[i][j][h][e] = p.state == State::momentum ? element(p.x0, row, column, p.n)
                                                    : element(p.s0, row, column, correction ? p.m : p.n);
    });
    if constexpr (Keeps) {
      const int outputs = p.coupled ? p.padded_m : p.padded_n, before = p.coupled ? 0 : p.padded_m;
      Product::keep(first_kept, p.padded_n, p.first, outputs, before + p.padded_n, before);
      if (p.coupled) Product::keep(second_kept, p.padded_m, p.second, p.padded_n, p.padded_m, 0);
    }
    sync_cluster<Blocks>();
  }

  // sums += v x first, whose columns for it begin after so many.
  FASTUNROLL_DEVICE void add_first(int k, typename Product::Sums& sums, int outputs, int before) {
    if constexpr (Keeps)
      Product::add_kept(sums, region_n, p.padded_n, first_kept, outputs, exchange);
    else
      Product::add(sums, region_n, p.padded_n, p.first + k * p.first_stride, outputs, before + p.padded_n, before,
                   exchange);
  }
  // sums += the scaled residual x second.
  FASTUNROLL_DEVICE void add_second(int k, typename Product::Sums& sums) {
    if constexpr (Keeps)
      Product::add_kept(sums, region_m, p.padded_m, second_kept, p.padded_n, exchange);
    else
      Product::add(sums, region_m, p.padded_m, p.second + k * p.second_stride, p.padded_n, p.padded_m, 0, exchange);
  }

  // z of a direct layer: W1 y + W2 v.
  FASTUNROLL_DEVICE void direct(int k, typename Product::Sums& sums) {
    const Stored* const weights = p.first + k * p.first_stride;
    const int stride = p.padded_m + p.padded_n;
    const bool constant = p.first_stride == 0;
    if (!constant || k == 0) {
      Product::add(sums, region_m, p.padded_m, weights, p.padded_n, stride, 0, exchange);
      Product::for_own([&](int i, int j, int h, int e) { base.at[i][j][h][e] = Product::of_own(sums, i, j, h, e); });
    } else {
      Product::for_own([&](int i, int j, int h, int e) { Product::of_own(sums, i, j, h, e) = base.at[i][j][h][e]; });
    }
    if (k > 0 || !starts_at_zero()) add_first(k, sums, p.padded_n, p.padded_m);
    sync_cluster<Blocks>();  // all have read v
  }

  // z of a coupled layer, v + W^T (t r); with Onsager's correction s becomes r, which the next s is a share of.
  FASTUNROLL_DEVICE void coupled(int k, typename Product::Sums& sums, float (&scale)[Tall][2]) {
    const bool onsager = p.state == State::onsager;
    if (k > 0 || !starts_at_zero()) add_first(k, sums, p.padded_m, 0);
    const float* const step = p.step ? p.step + k * p.step_stride : nullptr;
    Own scaled;
    float squares[Tall][2] = {};
    Product::for_own([&](int i, int j, int h, int e) {
      const int column = Product::column_of(j) + e;
      float r = base.at[i][j][h][e] - Product::of_own(sums, i, j, h, e);
      if (onsager) {
        r += s.at[i][j][h][e];
        s.at[i][j][h][e] = r;
        squares[i][h] = fused_multiply_add(r, r, squares[i][h]);
      }
      scaled.at[i][j][h][e] = step && column < p.padded_m ? r * step[column] : r;
    });
    Product::share(region_m, p.padded_m, scaled);
    if (onsager) {
      sums_over_rows.share(squares_of_residual, squares);
      record_residual(k);
    }
    sync_cluster<Blocks>();  // the residual is there, and all have read v
    FASTUNROLL_UNROLL for (int i = 0; i < Tall; ++i) FASTUNROLL_UNROLL for (int h = 0; h < 2; ++h) scale[i][h] =
        onsager ? square_root(sums_over_rows.sum(squares_of_residual, i, h) / float(p.m)) : 1.0f;
    Product::for_own([&](int i, int j, int h, int e) { Product::of_own(sums, i, j, h, e) = v.at[i][j][h][e]; });
    add_second(k, sums);
  }

  // P of a magnitude, as a factor.
  FASTUNROLL_DEVICE float shrunk(float value, float theta) const {
    if (p.shrinkage == Shrinkage::none) return value;
    const bool soft = p.shrinkage == Shrinkage::soft;
    const float size = soft ? magnitude(value) : value, limit = soft && theta < 0 ? 0.0f : theta;
    return size - limit <= 0 ? 0.0f : soft ? with_sign(size - theta, value) : size - theta;
  }
  FASTUNROLL_DEVICE void shrink_pair(float& a, float& b, float theta) const {
    const float size = square_root(fused_multiply_add(a, a, b * b)), limit = theta < 0 ? 0.0f : theta;
    const bool zero = size - limit <= 0;  // not where one is NaN, or both are infinite
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
    if (Product::speaks()) Product::store(array, first_sample + row, p.batch, column, columns, values, step);
  }

  FASTUNROLL_DEVICE void record_residual(int k) const {
    if (!p.trace) return;
    FASTUNROLL_UNROLL for (int i = 0; i < Tall; ++i) {
      FASTUNROLL_UNROLL for (int j = 0; j < Chunks; ++j) {
        FASTUNROLL_UNROLL for (int h = 0; h < 2; ++h)
            store(p.trace + k * p.batch * p.m, Product::row_of(i, h), Product::column_of(j), s.at[i][j][h], p.m);
      }
    }
  }

  // Splitting: v and z - x+, one behind the other.
  FASTUNROLL_DEVICE void record(int k, int row, int column, const float (&input)[width], const float (&z)[width],
                                const float (&x)[width]) const {
    if (!p.trace) return;
    Stored* const trace = p.trace + k * p.batch * 2 * p.n;
    float moved[width];
    FASTUNROLL_UNROLL for (int e = 0; e < width; ++e) moved[e] = z[e] - x[e];
    store(trace, row, column, input, p.n, 2);
    store(trace + p.n, row, column, moved, p.n, 2);
  }

  FASTUNROLL_DEVICE void layers() {
    begin();
    FASTUNROLL_ROLLED for (int k = 0; k < p.layers; ++k) {
      typename Product::Sums sums = {};
      float scale[Tall][2] = {};
      if (p.coupled)
        coupled(k, sums, scale);
      else
        direct(k, sums);
      end_layer(k, sums, scale);
    }
  }

  FASTUNROLL_DEVICE void end_layer(int k, typename Product::Sums& sums, const float (&scale)[Tall][2]) {
    const bool last = k + 1 == p.layers;
    Stored* const x = p.x ? p.x + k * p.batch * p.n : nullptr;
    float nonzeros[Tall][2] = {};
    FASTUNROLL_UNROLL for (int i = 0; i < Tall; ++i) {
      FASTUNROLL_UNROLL for (int j = 0; j < Chunks; ++j) {
        const int column = Product::column_of(j);
        if (column >= p.padded_n) continue;
        FASTUNROLL_UNROLL for (int h = 0; h < 2; ++h) {
          keep_order();
          float (&own_v)[width] = v.at[i][j][h];
          float (&own_s)[width] = s.at[i][j][h];
          float u[width], z[width];
          FASTUNROLL_UNROLL for (int e = 0; e < width; ++e) {
            z[e] = Product::of_own(sums, i, j, h, e);
            u[e] = p.state == State::splitting ? z[e] + own_s[e] : z[e];
          }
          prox(k, u, column, p.coupled ? scale[i][h] : 1.0f);
          store(x, Product::row_of(i, h), column, u, p.n);
          if (last) store(p.last, Product::row_of(i, h), column, u, p.n);
          if (p.state == State::splitting) record(k, Product::row_of(i, h), column, own_v, z, u);
          FASTUNROLL_UNROLL for (int e = 0; e < width; ++e) {
            nonzeros[i][h] += u[e] != 0;
            own_v[e] = u[e];
            if (p.state == State::splitting) {
              own_s[e] = fused_multiply_add(p.blend[k], z[e] - u[e], own_s[e]);
              own_v[e] = u[e] - own_s[e];
            } else if (p.state == State::momentum) {
              if (!last) {
                own_v[e] = fused_multiply_add(p.blend[k + 1], u[e] - own_s[e], u[e]);
                own_s[e] = u[e];
              }
            }
          }
          if (last && p.state != State::onsager) store(p.s, Product::row_of(i, h), column, own_s, p.n);
        }
      }
    }
    if (!last) Product::share(region_n, p.padded_n, v);
    if (p.state == State::onsager) {
      sums_over_rows.share(nonzeros_of_x, nonzeros);
      sync_cluster<Blocks>();
      correct(k, last);
    } else if (!last) {
      sync_cluster<Blocks>();
    }
  }

  // s = b r
  FASTUNROLL_DEVICE void correct(int k, bool last) {
    const float gain = p.gain ? p.gain[k] : 1.0f;
    FASTUNROLL_UNROLL for (int i = 0; i < Tall; ++i) {
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
