// F^-1 diag(d) F x - z for a batch of images, and its sum over coils.
//
// A thread takes one image at a time. Threads share the images that are left at the end, and every image where there
// are fewer images than threads: rows, then strips of columns, then rows. A strip or a group of rows is the same work
// for whichever thread does it.
#include "cpu/complex_pairs.h"
#include "cpu/fourier_image.h"
#include "cpu/spectrum.h"
#include "cpu/threads.h"
#include "cpu/workspace.h"

namespace fastunroll::FASTUNROLL_SET {
namespace {

// A batch of images as vectors of values of a row.
template <class T> struct Pixels {
  int64_t rows, width;  // in values
  int64_t at(int64_t row, int64_t i) const { return row * width + i; }
  // `whole` says whether the row goes on to the end of the vector; else it may end before.
  template <int Whole> Vector<T> get(const T* image, int64_t row, int64_t i, Constant<Whole>) const {
    return Whole ? load(image + at(row, i)) : load_some(image + at(row, i), width - i);
  }
  template <int Whole> void put(T* image, int64_t row, int64_t i, Vector<T> v, Constant<Whole>) const {
    Whole ? store(image + at(row, i), v) : store_some(image + at(row, i), v, width - i);
  }
};

template <class T> struct TakeImage {
  Pixels<T> pixels;
  const T* x;
  template <class W> FASTUNROLL_INLINE Vector<T> operator()(int64_t row, int64_t i, W whole) const {
    return pixels.get(x, row, i, whole);
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

// What a thread works in: strips that a team may share, a line, and a column.
template <class T> struct Scratch {
  T *strips, *line, *column;
};

// The strip with column 0 of real images, whose two columns have separate factors: C[k] becomes a C[k] + b conj(C[-k]).
template <class T, Multiplier Kind>
void filter_column_0(const Fft<T>& down, T* strip, LaneGain<T, Kind> gain, const T* second, T* column) {
  forward(down, strip);
  for (int64_t p = 0; p < down.size; ++p) {
    const int64_t frequency = down.frequencies[p], mirrored = down.positions[frequency ? down.size - frequency : 0];
    const T re = strip[mirrored * point_size<T>], im = -strip[mirrored * point_size<T> + lanes<T>];
    const T b_re = Kind == Multiplier::real ? second[p] : second[2 * p];
    const T b_im = Kind == Multiplier::real        ? 0
                   : Kind == Multiplier::conjugate ? -second[2 * p + 1]
                                                   : second[2 * p + 1];
    column[2 * p] = b_re * re - b_im * im;
    column[2 * p + 1] = b_re * im + b_im * re;
  }
  multiply(strip, 0, down.size, gain);
  for (int64_t p = 0; p < down.size; ++p) {
    strip[p * point_size<T>] += column[2 * p];
    strip[p * point_size<T> + lanes<T>] += column[2 * p + 1];
  }
  inverse(down, strip);
}

template <class T, Multiplier Kind, class Take, class Give>
void filter_image(const FourierImage<T>& image, Team team, const Scratch<T>& scratch, const T* d, const Take& take,
                  const Give& give) {
  for (int64_t g = team.rank; g < image.groups; g += team.size) {
    image.read_rows(g, take, scratch.line);
    forward(image.along, scratch.line);
    image.put_rows(g, scratch.line, scratch.strips);
  }
  team.wait();
  constexpr int64_t parts = Kind == Multiplier::real ? 1 : 2;
  const int64_t of_strip = parts * image.rows * lanes<T>;
  for (int64_t s = team.rank; s < image.strips; s += team.size) {
    T* strip = scratch.strips + s * image.strip_size;
    const LaneGain<T, Kind> gain{d + s * of_strip};
    if (s == 0 && image.is_folded())
      filter_column_0(image.down, strip, gain, d + image.strips * of_strip, scratch.column);
    else
      filter(image.down, strip, gain);
  }
  team.wait();
  for (int64_t g = team.rank; g < image.groups; g += team.size) {
    image.get_rows(g, scratch.strips, scratch.line);
    inverse(image.along, scratch.line);
    image.write_rows(g, give, scratch.line);
  }
  team.wait();
}

// F is the transform of each row.
template <class T, Multiplier Kind, class Take, class Give>
void filter_rows(const FourierImage<T>& image, Team team, const Scratch<T>& scratch, const T* d, const Take& take,
                 const Give& give) {
  for (int64_t g = team.rank; g < image.groups; g += team.size) {
    image.read_rows(g, take, scratch.line);
    filter(image.along, scratch.line, PointGain<T, Kind>{d});
    image.write_rows(g, give, scratch.line);
  }
  team.wait();
}

template <class T, Multiplier Kind> struct Batch {
  const FourierFilter<T>& p;
  const FourierImage<T>& image;
  int64_t packed_size;

  template <class Take, class Give>
  void apply(Team team, const Scratch<T>& scratch, int64_t sample, const Take& take, const Give& give) const {
    const T* d = p.spectrum.packed + sample / p.repeat % p.spectrum.count * packed_size;
    if (p.spectrum.of_rows)
      filter_rows<T, Kind>(image, team, scratch, d, take, give);
    else
      filter_image<T, Kind>(image, team, scratch, d, take, give);
  }

  void operator()(Team team, const Scratch<T>& scratch, int64_t sample) const {
    const Pixels<T> pixels{image.rows, image.is_real ? image.columns : 2 * image.columns};
    const int64_t size = pixels.rows * pixels.width;
    const T *x = p.x + sample * size, *z = p.z ? p.z + sample * size : nullptr;
    T* y = p.y + sample * size;
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
                       columns + team.rank * of_column};
    for (int64_t sample; !__atomic_load_n(&is_stopped, __ATOMIC_RELAXED) && queue.take(sample, alone);) {
      filter_sample({0, 1, nullptr}, scratch, sample);
      if (team.rank == 0 && p.interrupted && p.interrupted()) __atomic_store_n(&is_stopped, 1, __ATOMIC_RELAXED);
    }
    team.wait();
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
