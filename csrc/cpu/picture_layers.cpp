// All layers over pictures, and their gradient: one picture after another, so that it stays in the cache.
//
// The gradient computes the layers of a picture again, unless they were saved, and keeps their results for that picture
// alone. A thread takes one picture at a time. Threads share the pictures that are left at the end: bands of rows, of
// which each row is the same work for whichever thread does it. Nothing depends on other pictures.
#include "cpu/extrapolate.h"
#include "cpu/filter_bank.h"
#include "cpu/normal.h"
#include "cpu/picture_prox.h"
#include "cpu/total_variation.h"
#include "cpu/workspace.h"
#include "fastunroll.h"

namespace fastunroll::FASTUNROLL_SET {
namespace {

// v = x + beta (x - before), or x without `before`.
template <class T> struct Ahead {
  const T *x, *before;
  int64_t stride;
  Vector<T> beta;
  Vector<T> at(int64_t place) const {
    const Vector<T> now = load(x + place);
    return before ? ahead<T>(now, load(before + place), beta) : now;
  }
  template <class W> FASTUNROLL_INLINE Vector<T> operator()(int64_t row, int64_t i, W) const {
    return at(row * stride + i);
  }
};

// u = v - step (H v - z)
template <class T> struct Descend {
  Ahead<T> v;
  Pixels<T> pixels;
  const T* z;
  Vector<T> step;
  T* u;
  template <class W> FASTUNROLL_INLINE Vector<T> combine(int64_t row, int64_t i, Vector<T> product, W whole) const {
    return multiply_add(-step, product - pixels.get(z, row, i, whole), v(row, i, whole));
  }
  template <class W> FASTUNROLL_INLINE void put(int64_t row, int64_t i, Vector<T> value, W) const {
    store(u + row * v.stride + i, value);
  }
};

template <class T> struct Store {
  T* to;
  int64_t stride;
  template <class W> FASTUNROLL_INLINE Vector<T> combine(int64_t, int64_t, Vector<T> value, W) const { return value; }
  template <class W> FASTUNROLL_INLINE void put(int64_t row, int64_t i, Vector<T> value, W) const {
    store(to + row * stride + i, value);
  }
};

// What a thread of a team works in. The pictures, the strips of a transform and sums are the team's.
template <class T> struct Room {
  Team team;
  Scratch<T> fourier;
  T *prior, *kept;      // of total variation or of a bank of filters; the q of total variation
  T* own;               // a picture
  T *coils, *pictures;  // a sum over coils; pictures one after another
  double* sums;         // of rows
  bool asks;            // whether the thread may ask if the call is interrupted
  int* is_stopped;
};

template <class T> struct Layers {
  const PictureLayers<T>& p;
  Grid<T> grid;
  Normal<T> normal;
  PixelProx<T> pixel_prox;
  const T *momenta, *filters;  // of total variation; packed

  Layers(const PictureLayers<T>& layers, const Grid<T>& grid, const FourierImage<T>* image, const T* momenta,
         const T* filters)
      : p(layers),
        grid(grid),
        normal{layers.normal, grid, image},
        pixel_prox{layers.prox, !layers.normal.spectrum.real_images},
        momenta(momenta),
        filters(filters) {}

  bool has_variation() const { return p.prox.prior == PicturePrior::total_variation; }
  bool has_bank() const { return p.prox.prior == PicturePrior::filter_bank; }
  int64_t bank_sums() const {
    return FilterBank<T, false>::numbers(p.prox) * FilterBank<T, false>::sum_count(grid, p.prox);
  }
  bool mixes_pixels() const { return has_variation() || has_bank(); }
  bool prox_needs_input() const { return mixes_pixels() || pixel_prox.needs_input(); }
  T theta(int64_t k) const { return p.theta ? p.theta[k] : 0; }
  int64_t values() const { return grid.rows * grid.width; }
  T* picture(const Room<T>& room, int64_t i) const { return room.pictures + i * grid.size(); }
  Band band(const Room<T>& room) const {
    return Band::of(room.team, grid.rows, has_bank() ? FilterBank<T, false>::rows_of_sum : 1);
  }

  // Whether the call ends here, for the whole team.
  bool stops(const Room<T>& room) const {
    if (room.asks && p.interrupted && p.interrupted()) __atomic_store_n(room.is_stopped, 1, __ATOMIC_RELAXED);
    room.team.wait();
    return __atomic_load_n(room.is_stopped, __ATOMIC_RELAXED);
  }
  void start(int64_t number, const Room<T>& room, T* x) const {
    grid.copy_in(band(room), p.x0 ? p.x0 + number * values() : nullptr, x);
    room.team.wait();
  }
  Ahead<T> ahead_of(int64_t k, const T* x, const T* before) const {
    return {x, p.beta ? before : nullptr, grid.stride, broadcast(p.beta ? p.beta[k] : T(0))};
  }
  // u may take the place of `before`.
  void gradient_step(int64_t k, int64_t number, const Room<T>& room, const T* x, const T* before, T* u) const {
    const Ahead<T> v = ahead_of(k, x, before);
    const Pixels<T> pixels{grid.rows, grid.width};
    normal.apply(room.team, room.fourier, room.coils, number, v,
                 Descend<T>{v, pixels, p.z + number * values(), broadcast(p.step[k]), u});
  }
  template <class Work> void with_variation(const Room<T>& room, const Work& work) const {
    if (p.normal.spectrum.real_images)
      work(TotalVariation<T, false>(grid, p.prox.iterations, momenta, room.prior));
    else
      work(TotalVariation<T, true>(grid, p.prox.iterations, momenta, room.prior));
  }
  // Calls work(bank, its filters, theta) with those of layer k.
  template <class Work> void with_bank(int64_t k, const Room<T>& room, const Work& work) const {
    const LayerFilters<T> of_layer(p.prox, filters, k);
    const T* const thetas = p.theta + k * p.prox.filter_count;
    if (p.normal.spectrum.real_images)
      work(FilterBank<T, false>(grid, p.prox, room.prior), of_layer, thetas);
    else
      work(FilterBank<T, true>(grid, p.prox, room.prior), of_layer, thetas);
  }
  // Where u comes to for the next iterate; priors of single pixels take its place.
  T* input_of(T* next, T* u) const { return mixes_pixels() ? u : next; }
  // next = P(u)
  void prox_step(int64_t k, const Room<T>& room, const T* u, T* next) const {
    if (has_variation())
      with_variation(room, [&](auto variation) { variation.forward(band(room), u, next, theta(k)); });
    else if (has_bank())
      with_bank(k, room, [&](auto bank, const auto& of_layer, const T* thetas) {
        bank.forward(band(room), u, of_layer, thetas, next);
      });
    else
      pixel_prox.apply(grid, band(room), theta(k), next);
    room.team.wait();
  }
  // The saved pictures of a layer: x, and before it u if the gradient of P needs it.
  int64_t saved_of_layer() const { return 1 + prox_needs_input(); }
  int64_t saved_at(int64_t number, int64_t k) const { return (number * p.layers + k) * saved_of_layer() * values(); }
  // From the gradient of x = P(u) to that of u, in its place. Sums have those of theta and of the filters.
  void prox_backward(int64_t k, const Room<T>& room, const T* u, const T* x, T* grad) const {
    const Band rows = band(room);
    if (has_variation()) {
      with_variation(room, [&](auto variation) {
        variation.keep(rows, u, theta(k), room.kept);
        variation.backward(rows, grad, room.own, theta(k), room.kept, room.sums);
      });
    } else if (has_bank()) {
      with_bank(k, room, [&](auto bank, const auto& of_layer, const T* thetas) {
        bank.backward(rows, u, of_layer, thetas, grad, room.own, room.sums);
      });
    } else {
      pixel_prox.backward(grid, rows, theta(k), pixel_prox.needs_input() ? u : x, grad, room.sums);
    }
    room.team.wait();
    if (!mixes_pixels()) return;
    grid.each(rows, [&](int64_t row, int64_t c) { store(grid.at(grad, row, c), load(grid.at(room.own, row, c))); });
    room.team.wait();
  }
  // Writes the gradients of theta and of the filters of layer k of a picture, by one thread.
  void write_prox_gradients(const PictureBackward<T>& to, int64_t k, int64_t number, const double* sums) const {
    const int64_t place = k * p.batch + number;
    if (!has_bank()) {
      if (to.theta) to.theta[place] = T((has_variation() ? 1 : -1) * total(sums, grid.rows));
      return;
    }
    const int64_t numbers = FilterBank<T, false>::numbers(p.prox), count = p.prox.filter_count,
                  values = numbers - count;
    const auto write = [&](T* at, int64_t first, int64_t size) {
      const int64_t rows = FilterBank<T, false>::sum_count(grid, p.prox);
      for (int64_t n = 0; at && n < size; ++n) at[place * size + n] = T(total(sums + first + n, rows, numbers));
    };
    write(to.filters, 0, values);
    write(to.theta, values, count);
  }
};

template <class T>
void forward_picture(const PictureForward<T>& p, const Layers<T>& of, const Room<T>& room, int64_t i) {
  T *x = of.picture(room, 0), *other = of.picture(room, 1), *const u = of.picture(room, 2);
  of.start(i, room, x);
  for (int64_t k = 0; k < p.of.layers; ++k) {
    if (of.stops(room)) return;
    T* const input = of.input_of(other, u);
    of.gradient_step(k, i, room, x, k > 0 ? other : x, input);
    T* const saved = i < p.saved_pictures ? p.saved + of.saved_at(i, k) : nullptr;
    if (saved && of.prox_needs_input()) of.grid.copy_out(of.band(room), input, saved);
    of.prox_step(k, room, input, other);
    T* const before = x;
    x = other, other = before;
    const int64_t place = k - (p.of.layers - p.kept);
    if (place >= 0) of.grid.copy_out(of.band(room), x, p.x + (place * p.of.batch + i) * of.values());
    if (saved) of.grid.copy_out(of.band(room), x, saved + (of.saved_of_layer() - 1) * of.values());
  }
  room.team.wait();
}

// With the gradient u' of u: that of step is <u', z> - <H u', v>, of z step u', and of v u' - step H u'.
template <class T>
void backward_picture(const PictureBackward<T>& p, const Layers<T>& of, const Room<T>& room, int64_t i) {
  const Grid<T>& grid = of.grid;
  const Band rows = of.band(room);
  const int64_t layers = p.of.layers, batch = p.of.batch, values = of.values();
  T *const grad = of.picture(room, 0), *const grad_before = of.picture(room, 1), *const u = of.picture(room, 2);
  const auto x = [&](int64_t k) { return of.picture(room, 3 + (k > 0 ? k : 0)); };  // that layer k starts from
  const auto write = [&](T* to, int64_t k, double value) {
    if (to && room.team.rank == 0) to[k * batch + i] = T(value);
  };
  const bool is_saved = i < p.saved_pictures;
  of.start(i, room, x(0));
  for (int64_t k = 0; k < layers - of.prox_needs_input(); ++k) {
    if (is_saved) {
      grid.copy_in(rows, p.saved + of.saved_at(i, k) + (of.saved_of_layer() - 1) * values, x(k + 1));
      continue;
    }
    if (of.stops(room)) return;
    T* const input = of.input_of(x(k + 1), u);
    of.gradient_step(k, i, room, x(k), x(k - 1), input);
    of.prox_step(k, room, input, x(k + 1));
  }
  grid.clear(rows, grad);
  grid.clear(rows, grad_before);
  for (int64_t k = layers - 1; k >= 0; --k) {
    if (of.stops(room)) return;
    const int64_t place = k - (layers - p.kept);
    if (place >= 0) {
      const T* from = p.grad + (place * batch + i) * values;
      grid.each(rows, [&](int64_t row, int64_t c) {
        T* const at = grid.at(grad, row, c);
        store(at, load(at) + grid.get(from, row, c));
      });
    }
    if (of.prox_needs_input()) {
      if (is_saved)
        grid.copy_in(rows, p.saved + of.saved_at(i, k), u);
      else
        of.gradient_step(k, i, room, x(k), x(k - 1), u);
      room.team.wait();
    }
    of.prox_backward(k, room, u, x(k + 1), grad);
    if (room.team.rank == 0) of.write_prox_gradients(p, k, i, room.sums);
    of.normal.apply(room.team, room.fourier, room.coils, i, Ahead<T>{grad, nullptr, grid.stride, {}},
                    Store<T>{u, grid.stride});
    const T *z = p.of.z + i * values, *now = x(k), *before = x(k - 1);
    T* const to_z = p.z ? p.z + i * values : nullptr;
    const Ahead<T> v = of.ahead_of(k, now, before);
    const Vector<T> step = broadcast(p.of.step[k]), beta = v.beta;
    RowSums<T> to_step{room.sums}, to_beta{room.sums + grid.rows};
    grid.each(rows, [&](int64_t row, int64_t c) {
      const int64_t here = row * grid.stride + c;
      const Vector<T> of_u = load(grad + here), product = load(u + here);
      to_step.add(of_u, grid.get(z, row, c));
      to_step.add(-product, v.at(here));
      if (to_z) {
        const Vector<T> sum = k + 1 < layers ? grid.get(to_z, row, c) : Vector<T>{};
        grid.put(to_z, row, c, multiply_add(step, of_u, sum));
      }
      const Vector<T> of_v = multiply_add(-step, product, of_u);
      store(grad + here, load(grad_before + here) + (v.before ? multiply_add(beta, of_v, of_v) : of_v));
      if (v.before) {
        to_beta.add(of_v, load(now + here) - load(before + here));
        store(grad_before + here, -beta * of_v);
      }
      if (c + lanes<T> < grid.stride) return;
      to_step.end_row(row);
      to_beta.end_row(row);
    });
    room.team.wait();
    write(p.step, k, total(room.sums, grid.rows));
    write(p.beta, k, total(room.sums + grid.rows, grid.rows));
  }
  if (p.x0)  // which is the iterate before itself, too
    grid.each(rows, [&](int64_t row, int64_t c) {
      grid.put(p.x0 + i * values, row, c, load(grid.at(grad, row, c)) + load(grid.at(grad_before, row, c)));
    });
  room.team.wait();
}

// The momenta of total variation: (t - 1) / t+ with t+ = (1 + sqrt(1 + 4 t^2)) / 2, from t = 1 on.
template <class T> void beck_teboulle(int64_t count, T* momenta) {
  double t = 1;
  for (int64_t i = 0; i < count; ++i) {
    const double following = (1 + __builtin_sqrt(1 + 4 * t * t)) / 2;
    momenta[i] = T((t - 1) / following);
    t = following;
  }
}

// Memory for each thread of a call.
template <class T> struct Parts {
  T* data;
  int64_t size;
  Parts(Workspace& memory, int64_t size, int threads) : data(memory.take<T>(size * threads)), size(size) {}
  T* operator[](int thread) const { return data + thread * size; }
};

// Calls work(layers, room, number) for each picture, by a thread alone or by a team. `pictures`: how many the work
// keeps. `goes_back`: whether it is the gradient.
template <class T, class Work>
void for_pictures(const PictureLayers<T>& p, int64_t pictures, bool goes_back, const Work& work) {
  if (p.batch == 0) return;
  const Spectrum<T>& size = p.normal.spectrum;
  const Grid<T> grid{size.rows, size.real_images ? size.columns : 2 * size.columns};
  const auto with_image = [&](const FourierImage<T>* image) {
    constexpr int64_t least_work = 1 << 13;  // pixels for which another thread is worth its start
    const int64_t most = p.batch * size.rows * size.columns / least_work + 1;
    const int threads = int(most < p.threads ? most : p.threads);
    const bool varies = p.prox.prior == PicturePrior::total_variation,
               has_bank = p.prox.prior == PicturePrior::filter_bank;
    const int64_t iterations = varies ? p.prox.iterations : 0,
                  filters_size = has_bank ? LayerFilters<T>::size(p.prox) : 0;
    Workspace memory;
    T* momenta = memory.take<T>(iterations);
    beck_teboulle(iterations, momenta);
    T* const filters = memory.take<T>(p.layers * filters_size);
    for (int64_t k = 0; has_bank && k < p.layers; ++k) LayerFilters<T>::pack(p.prox, k, filters + k * filters_size);
    const Layers<T> layers(p, grid, image, momenta, filters);
    // For each thread a part of each.
    const Parts<T> strips(memory, layers.normal.strips_size(), threads),
        lines(memory, layers.normal.line_size(), threads), columns(memory, layers.normal.column_size(), threads),
        coils(memory, layers.normal.sum_size(), threads),
        priors(memory,
               varies     ? TotalVariation<T, false>::memory_size(grid, iterations)
               : has_bank ? FilterBank<T, true>::memory_size(grid, p.prox)
                          : 0,
               threads),
        kept(memory, goes_back && varies ? TotalVariation<T, false>::kept_size(grid, iterations) : 0, threads),
        own(memory, goes_back && layers.mixes_pixels() ? grid.size() : 0, threads),
        all(memory, pictures * grid.size(), threads);
    // The gradient of filters multiplies what lies behind the last row by zero.
    for (int64_t i = 0; i < pictures * threads; ++i) grid.clear_behind(all.data + i * grid.size());
    const int64_t of_rows = 2 * grid.rows, of_bank = has_bank ? layers.bank_sums() : 0;
    const Parts<double> sums(memory, of_bank > of_rows ? of_bank : of_rows, threads);
    Queue queue;
    const int64_t alone = p.batch / threads * threads;
    int is_stopped = 0;
    in_parallel(threads, [&](Team team) {
      const int rank = team.rank;
      const auto room = [&](Team of, int owner) {
        return Room<T>{of,           {strips[owner], lines[rank], columns[rank]},
                       priors[rank], kept[rank],
                       own[rank],    coils[owner],
                       all[owner],   sums[owner],
                       rank == 0,    &is_stopped};
      };
      const Room<T> of_thread = room({0, 1, nullptr}, rank), of_team = room(team, 0);
      for (int64_t number; !__atomic_load_n(&is_stopped, __ATOMIC_RELAXED) && queue.take(number, alone);)
        work(layers, of_thread, number);
      team.wait();
      for (int64_t number = alone; number < p.batch; ++number) work(layers, of_team, number);
    });
  };
  if (p.normal.weights) return with_image(nullptr);
  const FourierImage<T> image(size.rows, size.columns, size.real_images);
  with_image(&image);
}

}  // namespace

template <class T> void picture_forward(const PictureForward<T>& p) {
  for_pictures(p.of, 3, false, [&](const Layers<T>& layers, const Room<T>& room, int64_t number) {
    forward_picture(p, layers, room, number);
  });
}

template <class T> void picture_backward(const PictureBackward<T>& p) {
  for_pictures(p.of, p.of.layers + 4, true, [&](const Layers<T>& layers, const Room<T>& room, int64_t number) {
    backward_picture(p, layers, room, number);
  });
}

template void picture_forward(const PictureForward<float>&);
template void picture_forward(const PictureForward<double>&);
template void picture_backward(const PictureBackward<float>&);
template void picture_backward(const PictureBackward<double>&);

}  // namespace fastunroll::FASTUNROLL_SET
