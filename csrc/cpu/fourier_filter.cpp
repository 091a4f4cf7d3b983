// F^-1 diag(d) F x - z for a batch of images, and its sum over coils.
//
// A thread takes one image at a time. Threads share the images that are left at the end, and every image where there
// are fewer images than threads: rows, then strips of columns, then rows. A strip or a group of rows is the same work
// for whichever thread does it.
#include "cpu/complex_pairs.h"
#include "cpu/filter_image.h"
#include "cpu/workspace.h"

namespace fastunroll::FASTUNROLL_SET {
namespace {

template <class T> struct TakeImage {
  Pixels<T> pixels;
  const T* x;
  template <class W> FASTUNROLL_INLINE Vector<T> operator()(int64_t row, int64_t i, W whole) const {
    return pixels.get(x, row, i, whole);
  }
};

// The sum of an image and another one, which is scaled first.
template <class T> struct TakeSum {
  Pixels<T> pixels;
  const T *x, *added;
  Vector<T> scale;
  template <class W> FASTUNROLL_INLINE Vector<T> operator()(int64_t row, int64_t i, W whole) const {
    return pixels.get(added, row, i, whole) + scale * pixels.get(x, row, i, whole);
  }
};

template <class T> struct GiveImage {
  Pixels<T> pixels;
  const T* z;
  T* y;
  template <class W> FASTUNROLL_INLINE Vector<T> combine(int64_t row, int64_t i, Vector<T> v, W whole) const {
    return z ? v - pixels.get(z, row, i, whole) : v;
  }
  template <class W> FASTUNROLL_INLINE void put(int64_t row, int64_t i, Vector<T> v, W whole) const {
    pixels.put(y, row, i, v, whole);
  }
};

// What a coil sees: S x.
template <class T> struct TakeCoil {
  Pixels<T> pixels;
  const T *x, *map;
  template <class W> FASTUNROLL_INLINE Vector<T> operator()(int64_t row, int64_t i, W whole) const {
    return times_pairs<T, false>(pixels.get(x, row, i, whole), pixels.get(map, row, i, whole));
  }
};

// Adds conj(S) v to minus z, or to what earlier coils have left in y.
template <class T> struct GiveCoil {
  Pixels<T> pixels;
  const T *map, *z;
  bool is_first;
  T* y;
  template <class W> FASTUNROLL_INLINE Vector<T> combine(int64_t row, int64_t i, Vector<T> v, W whole) const {
    const Vector<T> seen = times_pairs<T, true>(v, pixels.get(map, row, i, whole));
    if (!is_first) return pixels.get(y, row, i, whole) + seen;
    return z ? seen - pixels.get(z, row, i, whole) : seen;
  }
  template <class W> FASTUNROLL_INLINE void put(int64_t row, int64_t i, Vector<T> v, W whole) const {
    pixels.put(y, row, i, v, whole);
  }
};

template <class T, Multiplier Kind> struct Batch {
  const FourierFilter<T>& p;
  const FourierImage<T>& image;
  int64_t packed_size;

  template <class Take, class Give>
  void apply(Team team, const Scratch<T>& scratch, int64_t sample, const Take& take, const Give& give) const {
    const T* d = p.spectrum.packed + sample / p.repeat % p.spectrum.count * packed_size;
    filter_either(image, team, scratch, p.spectrum.of_rows, PackedNumbers<T, Kind>{d}, take, give);
  }

  void operator()(Team team, const Scratch<T>& scratch, int64_t sample) const {
    const Pixels<T> pixels{image.rows, image.width()};
    const int64_t size = pixels.rows * pixels.width;
    const T *x = p.x + sample * size, *z = p.z ? p.z + sample * size : nullptr;
    T* y = p.y + sample * size;
    if constexpr (Kind == Multiplier::real) {
      if (p.added) {
        const TakeSum<T> sum{pixels, x, p.added + sample * size, broadcast(p.scale)};
        return apply(team, scratch, sample, sum, GiveImage<T>{pixels, z, y});
      }
    }
    if (!p.maps) return apply(team, scratch, sample, TakeImage<T>{pixels, x}, GiveImage<T>{pixels, z, y});
    const T* map = p.maps + sample / p.map_repeat % p.map_count * p.coils * size;
    for (int64_t c = 0; c < p.coils; ++c, map += size)
      apply(team, scratch, sample, TakeCoil<T>{pixels, x, map}, GiveCoil<T>{pixels, map, z, c == 0, y});
  }
};

template <class T, Multiplier Kind> void filter_batch(const FourierFilter<T>& p) {
  const FourierImage<T> image(p.spectrum.rows, p.spectrum.columns, p.spectrum.real_images);
  const Batch<T, Kind> filter_sample{p, image, packed_values(p.spectrum)};
  constexpr int64_t least_work = 1 << 13;  // pixels for which another thread is worth its start
  const int64_t work = p.batch * image.rows * image.columns / least_work + 1;
  const int threads = int(work < p.threads ? work : p.threads);
  Workspace memory;
  const int64_t of_strips = p.spectrum.of_rows ? 0 : image.workspace_size(), of_column = 2 * image.rows;
  T* strips = memory.take<T>(threads * of_strips);
  T* lines = memory.take<T>(threads * image.line_size());
  T* columns = memory.take<T>(threads * of_column);
  Queue queue;
  const int64_t alone = p.batch / threads * threads;
  int is_stopped = 0;
  in_parallel(threads, [&](Team team) {
    Scratch<T> scratch{strips + team.rank * of_strips, lines + team.rank * image.line_size(),
                       columns + team.rank * of_column, nullptr};
    for (int64_t sample; !__atomic_load_n(&is_stopped, __ATOMIC_RELAXED) && queue.take(sample, alone);) {
      filter_sample({0, 1, nullptr}, scratch, sample);
      if (team.rank == 0 && p.interrupted && p.interrupted()) __atomic_store_n(&is_stopped, 1, __ATOMIC_RELAXED);
    }
    if (0 < alone && alone < p.batch) team.wait();  // before all share the strips of the first
    scratch.strips = strips;
    for (int64_t sample = alone; sample < p.batch; ++sample) filter_sample(team, scratch, sample);
  });
}

}  // namespace

template <class T> void fourier_filter(const FourierFilter<T>& p) {
  if (p.batch == 0) return;
  if (!p.spectrum.complex)
    filter_batch<T, Multiplier::real>(p);
  else if (p.adjoint)
    filter_batch<T, Multiplier::conjugate>(p);
  else
    filter_batch<T, Multiplier::complex>(p);
}

template void fourier_filter(const FourierFilter<float>&);
template void fourier_filter(const FourierFilter<double>&);

}  // namespace fastunroll::FASTUNROLL_SET
