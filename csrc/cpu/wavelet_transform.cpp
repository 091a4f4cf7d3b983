// The wavelet transform of a batch of pictures, and its adjoint.
//
// A thread takes one picture at a time. Threads share the rows of the pictures that are left at the end. A row is the
// same work for whichever thread does it.
#include "wavelet_transform.h"

#include "cpu/wavelet.h"
#include "cpu/workspace.h"

namespace fastunroll::FASTUNROLL_SET {
namespace {

// What a thread of a team works in. The picture, the details and the approximations are the team's.
template <class T> struct TransformRoom {
  T* picture;
  WaveletRoom<T> wavelet;
};

// The values of a row, and zeros up to a whole vector; and the values alone.
template <class T> void copy_in(const T* from, T* to, int64_t size) {
  for (int64_t c = 0; c < size; c += lanes<T>) store(to + c, load_some(from + c, size - c));
}
template <class T> void copy_out(const T* from, T* to, int64_t size) {
  for (int64_t c = 0; c < size; c += lanes<T>) store_some(to + c, load(from + c), size - c);
}

template <class T> struct Transform {
  const WaveletTransform<T>& p;
  const Grid<T>& grid;
  const Wavelet<T>& wavelet;

  // Where a row of details begins in the coefficients.
  int64_t place(int64_t level, int64_t band, int64_t row) const {
    const bool is_low_down = band == 1, is_low_along = band == 0;
    const int64_t down = is_low_down ? 0 : wavelet.rows(level + 1), along = is_low_along ? 0 : wavelet.width(level + 1);
    return (down + row) * grid.width + along;
  }
  int64_t last() const { return wavelet.levels(); }

  void forward(Team team, const TransformRoom<T>& room, const T* x, T* y) const {
    const bool is_whole = grid.width % (2 * lanes<T>) == 0;  // sums read two vectors at a time
    if (!is_whole) {
      grid.copy_in(Band::of(team, grid.rows), x, room.picture);
      team.wait();
    }
    wavelet.analyse(team, 0, is_whole ? x : room.picture, room.wavelet,
                    [&](int64_t level, int band, int64_t row, const T* from, T*, int64_t size) {
                      copy_out(from, y + place(level, band, row), size);
                    });
    const Band band = Band::of(team, wavelet.rows(last()));
    for (int64_t row = band.first; row < band.last; ++row)
      copy_out(wavelet.approximation(room.wavelet, row), y + row * grid.width, wavelet.width(last()));
    team.wait();
  }

  void adjoint(Team team, const TransformRoom<T>& room, const T* x, T* y) const {
    for (int64_t level = 0; level < last(); ++level) {
      const Band rows = Band::of(team, wavelet.rows(level + 1));
      for (int64_t row = rows.first; row < rows.last; ++row)
        for (int64_t band = 0; band < 3; ++band)
          copy_in(x + place(level, band, row), wavelet.details(room.wavelet, level, row, band),
                  wavelet.width(level + 1));
    }
    const Band rows = Band::of(team, wavelet.rows(last()));
    for (int64_t row = rows.first; row < rows.last; ++row)
      copy_in(x + row * grid.width, wavelet.approximation(room.wavelet, row), wavelet.width(last()));
    team.wait();
    const bool is_whole = grid.width == grid.stride;
    wavelet.synthesise(team, 0, room.wavelet, is_whole ? y : room.picture);
    if (is_whole) return;
    grid.copy_out(Band::of(team, grid.rows), room.picture, y);
    team.wait();
  }

  void operator()(Team team, const TransformRoom<T>& room, int64_t number) const {
    const int64_t start = number * grid.rows * grid.width;
    if (p.adjoint)
      adjoint(team, room, p.x + start, p.y + start);
    else
      forward(team, room, p.x + start, p.y + start);
  }
};

}  // namespace

template <class T> void wavelet_transform(const WaveletTransform<T>& p) {
  if (p.batch == 0) return;
  const Grid<T> grid{p.rows, (p.real_images ? 1 : 2) * p.columns};
  constexpr int64_t least_work = 1 << 13;  // pixels for which another thread is worth its start
  const int64_t work = p.batch * p.rows * p.columns / least_work + 1;
  const int threads = int(work < p.threads ? work : p.threads);
  Workspace memory;
  const Wavelet<T> wavelet(p.wavelet, grid, !p.real_images, memory.take<T>(Wavelet<T>::filters_size(p.wavelet)));
  T* const pictures = memory.take<T>(threads * grid.size());
  T* const details = memory.take<T>(threads * wavelet.details_size());
  T* const approximations = memory.take<T>(threads * wavelet.approximations_size());
  T* const lines = memory.take<T>(threads * wavelet.lines_size());
  const Transform<T> transform{p, grid, wavelet};
  Queue queue;
  const int64_t alone = p.batch / threads * threads;
  int is_stopped = 0;
  in_parallel(threads, [&](Team team) {
    const auto room = [&](int owner) {
      return TransformRoom<T>{
          pictures + owner * grid.size(),
          {details + owner * wavelet.details_size(), approximations + owner * wavelet.approximations_size(),
           lines + team.rank * wavelet.lines_size()}};
    };
    for (int64_t number; !__atomic_load_n(&is_stopped, __ATOMIC_RELAXED) && queue.take(number, alone);) {
      transform({0, 1, nullptr}, room(team.rank), number);
      if (team.rank == 0 && p.interrupted && p.interrupted()) __atomic_store_n(&is_stopped, 1, __ATOMIC_RELAXED);
    }
    team.wait();  // before all share the memory of the first
    for (int64_t number = alone; number < p.batch; ++number) transform(team, room(0), number);
  });
}

template void wavelet_transform(const WaveletTransform<float>&);
template void wavelet_transform(const WaveletTransform<double>&);

}  // namespace fastunroll::FASTUNROLL_SET
