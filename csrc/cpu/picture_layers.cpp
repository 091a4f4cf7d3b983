// All layers over pictures, and their gradient: one picture after another, so that it stays in the cache.
//
// The gradient computes the layers of a picture again, unless they were saved, and keeps their results for that picture
// alone. A thread takes one picture at a time. Threads share the pictures that are left at the end: bands of rows, of
// which each row is the same work for whichever thread does it. Nothing depends on other pictures.
#include "cpu/picture_layer.h"
#include "cpu/workspace.h"

namespace fastunroll::FASTUNROLL_SET {
namespace {

template <class T>
void forward_picture(const PictureForward<T>& p, const PictureNetwork<T>& of, const PictureRoom<T>& room, int64_t i) {
  T *x = of.picture(room, 0), *other = of.picture(room, 1), *const u = of.picture(room, 2);
  of.start(p.of.x0, i, room, x);
  if (p.before) of.start(p.before, i, room, other);
  for (int64_t k = 0; k < p.of.layers; ++k) {
    if (of.stops(room)) return;
    T* const input = of.input_of(other, u);
    of.gradient_step(k, i, room, x, k > 0 || p.before ? other : x, input);
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
void backward_picture(const PictureBackward<T>& p, const PictureNetwork<T>& of, const PictureRoom<T>& room, int64_t i) {
  const Grid<T>& grid = of.grid;
  const Band rows = of.band(room);
  const int64_t layers = p.of.layers, batch = p.of.batch, values = of.values();
  T *const grad = of.picture(room, 0), *const grad_before = of.picture(room, 1), *const u = of.picture(room, 2);
  const auto x = [&](int64_t k) { return of.picture(room, 3 + (k > 0 ? k : 0)); };  // that layer k starts from
  const bool writes = room.team.rank == 0;                                          // the gradients of numbers
  const bool is_saved = i < p.saved_pictures;
  of.start(p.of.x0, i, room, x(0));
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
    if (is_saved && of.prox_needs_input())
      grid.copy_in(rows, p.saved + of.saved_at(i, k), u);
    else if (of.prox_needs_input())
      of.gradient_step(k, i, room, x(k), x(k - 1), u);
    room.team.wait();  // P mixes the rows of the whole team
    of.prox_backward(k, room, u, x(k + 1), grad);
    if (writes) of.write_prox_gradients(p, k, i, room.sums);
    of.normal.apply(room.team, room.fourier, room.coils, i, PictureAhead<T>{grad, nullptr, grid.stride, {}},
                    StorePicture<T>{u, grid.stride});
    const T *z = p.of.z + i * values, *now = x(k), *before = x(k - 1);
    T* const to_z = p.z ? p.z + i * values : nullptr;
    const PictureAhead<T> v = of.ahead_of(k, now, before);
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
    if (p.step && writes) p.step[k * batch + i] = T(total(room.sums, grid.rows));
    if (p.beta && writes) p.beta[k * batch + i] = T(total(room.sums + grid.rows, grid.rows));
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
    const Wavelet<T> wavelet(p.prox.wavelet, grid, !size.real_images,
                             memory.take<T>(Wavelet<T>::filters_size(p.prox.wavelet)));
    const PictureNetwork<T> layers(p, grid, image, momenta, filters, wavelet, goes_back ? p.layers : 1);
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
        all(memory, pictures * grid.size(), threads),
        details(memory, layers.kept_details * wavelet.details_size(), threads),
        approximations(memory, wavelet.approximations_size(), threads),
        wavelet_lines(memory, wavelet.lines_size(), threads);
    // The gradient of filters multiplies what lies behind the last row by zero.
    for (int64_t i = 0; i < pictures * threads; ++i) grid.clear_behind(all.data + i * grid.size());
    const int64_t of_rows = 3 * grid.rows, of_bank = has_bank ? layers.bank_sums() : 0;
    const Parts<double> sums(memory, of_bank > of_rows ? of_bank : of_rows, threads);
    Queue queue;
    const int64_t alone = p.batch / threads * threads;
    int is_stopped = 0;
    in_parallel(threads, [&](Team team) {
      const int rank = team.rank;
      const auto room = [&](Team of, int owner) {
        return PictureRoom<T>{of,           {strips[owner], lines[rank], columns[rank]},
                              priors[rank], kept[rank],
                              own[rank],    coils[owner],
                              all[owner],   {details[owner], approximations[owner], wavelet_lines[rank]},
                              sums[owner],  rank == 0,
                              &is_stopped};
      };
      const PictureRoom<T> of_thread = room({0, 1, nullptr}, rank), of_team = room(team, 0);
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
  for_pictures(p.of, 3, false, [&](const PictureNetwork<T>& layers, const PictureRoom<T>& room, int64_t number) {
    forward_picture(p, layers, room, number);
  });
}

template <class T> void picture_backward(const PictureBackward<T>& p) {
  for_pictures(p.of, p.of.layers + 4, true,
               [&](const PictureNetwork<T>& layers, const PictureRoom<T>& room, int64_t number) {
                 backward_picture(p, layers, room, number);
               });
}

template void picture_forward(const PictureForward<float>&);
template void picture_forward(const PictureForward<double>&);
template void picture_backward(const PictureBackward<float>&);
template void picture_backward(const PictureBackward<double>&);

}  // namespace fastunroll::FASTUNROLL_SET
