// All layers over pictures, and their gradient: one picture after another, so that it stays in the cache.
//
// The gradient computes the layers of a picture again, unless they were saved, and keeps their results for that picture
// alone. A thread takes one picture at a time. Threads share the pictures that are left at the end: bands of rows, of
// which each row is the same work for whichever thread does it. Nothing depends on other pictures.
#include "cpu/picture_layer.h"
#include "cpu/scheme_admm.h"
#include "cpu/scheme_primal_dual.h"
#include "cpu/scheme_proximal_gradient.h"
#include "cpu/workspace.h"

namespace fastunroll::FASTUNROLL_SET {
namespace {

// Calls work(scheme) with the scheme of the layers. `wants_state`: whether somebody reads d after the last layer.
template <class T, class Work> void with_scheme(const PictureNetwork<T>& of, bool wants_state, const Work& work) {
  switch (of.p.scheme) {
    case PictureScheme::admm:
      return work(AdmmLayers<T>{of});
    case PictureScheme::primal_dual:
      return work(PrimalDualLayers<T>{of, wants_state});
    default:
      return work(ProximalGradientLayers<T>{of});
  }
}

// The pictures in which forward_picture() works: two iterates, those of a layer, and a dual variable.
constexpr int64_t forward_pictures = 5;

template <class T, class Scheme>
void forward_picture(const PictureForward<T>& p, const Scheme& scheme, const PictureRoom<T>& room, int64_t i) {
  const PictureNetwork<T>& of = scheme.of;
  const Grid<T>& grid = of.grid;
  const Band rows = of.band(room);
  T *x = of.picture(room, 0), *other = of.picture(room, 1), *const dual = of.picture(room, 4);
  T* const second = of.has_dual() ? dual : other;
  of.start(p.of.x0, i, room, x);
  if (p.of.s0)
    of.start(p.of.s0, i, room, second);
  else
    scheme.start(i, room, {x, second});
  for (int64_t k = 0; k < p.of.layers; ++k) {
    if (of.stops(room)) return;
    T* const before = k > 0 || p.of.s0 ? other : x;
    T* const saved = i < p.saved_pictures ? p.saved + of.saved_at(i, k) : nullptr;
    const LayerPictures<T> at{
        {x, of.has_dual() ? dual : before}, {other, dual}, of.picture(room, 2), of.picture(room, 3)};
    scheme.step(k, i, room, at, saved && of.keeps_u() ? saved : nullptr);
    other = x, x = at.next.x;
    const int64_t place = k - (p.of.layers - p.kept);
    if (place >= 0) grid.copy_out(rows, x, p.x + (place * p.of.batch + i) * of.values());
    if (!saved) continue;
    if (of.has_dual()) grid.copy_out(rows, dual, saved + of.keeps_u() * of.values());
    if (of.has_wavelet())
      of.wavelet.wavelet.copy_details_out(room.team, of.wavelet_room(room, k), saved + of.details_at() * of.values());
    grid.copy_out(rows, x, saved + (of.saved_of_layer() - 1) * of.values());
  }
  if (p.s) grid.copy_out(rows, dual, p.s + i * of.values());
  room.team.wait();
}

// The pictures in which backward_picture() works: two gradients, those of a layer, and the states of all layers. The
// first `before` has a picture of its own where it is given.
template <class T> int64_t backward_pictures(const PictureNetwork<T>& of) {
  return 4 + (of.p.layers + 1) * (1 + of.has_dual()) + (of.p.s0 && !of.has_dual());
}

template <class T, class Scheme>
void backward_picture(const PictureBackward<T>& p, const Scheme& scheme, const PictureRoom<T>& room, int64_t i) {
  const PictureNetwork<T>& of = scheme.of;
  const Grid<T>& grid = of.grid;
  const Band rows = of.band(room);
  const int64_t layers = p.of.layers, batch = p.of.batch, values = of.values();
  const PictureState<T> grad{of.picture(room, 0), of.picture(room, 1)};
  T *const u = of.picture(room, 2), *const spare = of.picture(room, 3);
  const auto state = [&](int64_t k) {  // that layer k starts from
    T* const x = of.picture(room, 4 + k);
    if (of.has_dual() || (k == 0 && p.of.s0)) return PictureState<T>{x, of.picture(room, 5 + layers + k)};
    return PictureState<T>{x, of.picture(room, 4 + (k > 0 ? k - 1 : 0))};
  };
  const auto pictures = [&](int64_t k) { return LayerPictures<T>{state(k), state(k + 1), u, spare}; };
  const bool is_saved = i < p.saved_pictures;
  of.start(p.of.x0, i, room, state(0).x);
  if (p.of.s0)
    of.start(p.of.s0, i, room, state(0).s);
  else
    scheme.start(i, room, state(0));
  const bool reads_last = p.grad_s || !of.prox_needs_input();  // what the last layer leaves
  for (int64_t k = 0; k < layers - !reads_last; ++k) {
    if (!is_saved) {
      if (of.stops(room)) return;
      scheme.step(k, i, room, pictures(k), nullptr);
      continue;
    }
    const T* saved = p.saved + of.saved_at(i, k);
    if (of.has_dual()) grid.copy_in(rows, saved + of.keeps_u() * values, state(k + 1).s);
    grid.copy_in(rows, saved + (of.saved_of_layer() - 1) * values, state(k + 1).x);
  }
  grid.clear(rows, grad.x);
  grid.copy_in(rows, p.grad_s ? p.grad_s + i * values : nullptr, grad.s);
  grid.each(rows, [&](int64_t row, int64_t c) {
    if (p.z) grid.put(p.z + i * values, row, c, Vector<T>{});
  });
  for (int64_t k = layers - 1; k >= 0; --k) {
    if (of.stops(room)) return;
    const int64_t place = k - (layers - p.kept);
    if (place >= 0) {
      const T* from = p.grad + (place * batch + i) * values;
      grid.each(rows, [&](int64_t row, int64_t c) {
        T* const at = grid.at(grad.x, row, c);
        store(at, load(at) + grid.get(from, row, c));
      });
    }
    if (is_saved && of.keeps_u())
      grid.copy_in(rows, p.saved + of.saved_at(i, k), u);
    else if (of.keeps_u())
      scheme.linear_step(k, i, room, pictures(k));
    if (is_saved && of.has_wavelet())
      of.wavelet.wavelet.copy_details_in(room.team, p.saved + of.saved_at(i, k) + of.details_at() * values,
                                         of.wavelet_room(room, k));
    scheme.back(p, k, i, room, pictures(k), grad);
  }
  if (!p.of.s0) scheme.back_to_start(p, i, room, pictures(0), grad);
  if (p.s0) grid.copy_out(rows, grad.s, p.s0 + i * values);
  if (p.x0) grid.copy_out(rows, grad.x, p.x0 + i * values);
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

// Calls work(layers, room, number) for each picture, by a thread alone or by a team. `goes_back`: whether it is the
// gradient.
template <class T, class Work> void for_pictures(const PictureLayers<T>& p, bool goes_back, const Work& work) {
  if (p.batch == 0) return;
  const Spectrum<T>& size = p.normal.spectrum;
  const int64_t parts = size.real_images ? 1 : 2;
  const Grid<T> grid{p.normal.rows(), parts * p.normal.columns()}, whole{size.rows, parts * size.columns};
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
    T* const columns_of_grid = memory.take<T>(Normal<T>::columns_size(p.normal, whole));
    Normal<T>::make_columns(p.normal, whole, columns_of_grid);
    const Normal<T> normal{p.normal, grid, whole, image, columns_of_grid};
    const PictureNetwork<T> layers(p, normal, momenta, filters, wavelet, goes_back ? p.layers : 1);
    const int64_t pictures = goes_back ? backward_pictures(layers) : forward_pictures;
    // For each thread a part of each.
    const Parts<T> strips(memory, normal.strips_size(), threads), lines(memory, normal.line_size(), threads),
        columns(memory, normal.column_size(), threads), numbers(memory, normal.numbers_size(), threads),
        coils(memory, normal.sum_size(), threads),
        solvers(memory, layers.linear.iterates() ? SolveRoom<T>::pictures * grid.size() : 0, threads),
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
    const Parts<double> sums(memory, of_rows + (of_bank > of_rows ? of_bank : of_rows), threads),
        solver_sums(memory, layers.linear.iterates() ? 2 * grid.rows : 0, threads);
    const auto solver = [&](int owner) {
      T* const first = solvers[owner];
      const int64_t size = grid.size();
      return SolveRoom<T>{first, first + size, first + 2 * size, first + 3 * size, solver_sums[owner]};
    };
    Queue queue;
    const int64_t alone = p.batch / threads * threads;
    int is_stopped = 0;
    in_parallel(threads, [&](Team team) {
      const int rank = team.rank;
      const auto room = [&](Team of, int owner) {
        return PictureRoom<T>{{of,
                               {strips[owner], lines[rank], columns[rank], numbers[rank]},
                               coils[owner],
                               solver(owner),
                               rank == 0,
                               &is_stopped},
                              priors[rank],
                              kept[rank],
                              own[rank],
                              all[owner],
                              {details[owner], approximations[owner], wavelet_lines[rank]},
                              sums[owner],
                              sums[owner] + of_rows};
      };
      PictureRoom<T> of_thread = room({0, 1, nullptr}, rank), of_team = room(team, 0);
      const auto work_in = [&](PictureRoom<T>& room, int64_t number) {
        room.number = number;
        work(layers, room, number);
      };
      for (int64_t number; !__atomic_load_n(&is_stopped, __ATOMIC_RELAXED) && queue.take(number, alone);)
        work_in(of_thread, number);
      team.wait();
      for (int64_t number = alone; number < p.batch; ++number) work_in(of_team, number);
    });
  };
  if (p.normal.weights) return with_image(nullptr);
  const FourierImage<T> image(size.rows, size.columns, size.real_images);
  with_image(&image);
}

}  // namespace

template <class T> void picture_forward(const PictureForward<T>& p) {
  for_pictures(p.of, false, [&](const PictureNetwork<T>& layers, const PictureRoom<T>& room, int64_t number) {
    with_scheme(layers, p.s, [&](const auto& scheme) { forward_picture(p, scheme, room, number); });
  });
}

template <class T> void picture_backward(const PictureBackward<T>& p) {
  for_pictures(p.of, true, [&](const PictureNetwork<T>& layers, const PictureRoom<T>& room, int64_t number) {
    with_scheme(layers, false, [&](const auto& scheme) { backward_picture(p, scheme, room, number); });
  });
}

template void picture_forward(const PictureForward<float>&);
template void picture_forward(const PictureForward<double>&);
template void picture_backward(const PictureBackward<float>&);
template void picture_backward(const PictureBackward<double>&);

}  // namespace fastunroll::FASTUNROLL_SET
