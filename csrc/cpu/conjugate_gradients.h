// Conjugate gradients for one picture: the x of M x = b with a positive definite M.
#pragma once
#include "cpu/grid.h"

namespace fastunroll::FASTUNROLL_SET {

// What a team works in: pictures, and two sums for each row.
template <class T> struct SolveRoom {
  static constexpr int64_t pictures = 4;
  T *x, *residual, *direction, *product;
  double* sums;
};

template <class T> constexpr double precision_of_solution() {
  return 4 * (sizeof(T) == 8 ? __DBL_EPSILON__ : double(__FLT_EPSILON__));
}

// Starts from x = 0 with b in the place of the residual, and ends when |b - M x| <= precision_of_solution() |b|, or
// after `most` steps. apply() makes `product` of `direction`, and waits for the team. Each thread has its Band of rows.
// If the square of the residual is not finite, nor is x. Once stops() is true, which is asked now and then, x is any.
// Returns whether x is right, or not finite.
template <class T, class Apply, class Stops>
bool conjugate_gradients(Team team, const Grid<T>& grid, const SolveRoom<T>& room, int64_t most, const Apply& apply,
                         const Stops& stops) {
  const Band rows = Band::of(team, grid.rows);
  double *const of_residual = room.sums, *const of_product = room.sums + grid.rows;
  // Calls body(place, sum) for each vector, with the sum of its row. Returns the sum over all rows of the team.
  const auto sum_of = [&](double* sums, const auto& body) {
    RowSums<T> sum{sums};
    grid.each(rows, [&](int64_t row, int64_t c) {
      body(row * grid.stride + c, sum);
      if (c + lanes<T> >= grid.stride) sum.end_row(row);
    });
    team.wait();
    return total(sums, grid.rows);
  };
  double square = sum_of(of_residual, [&](int64_t here, RowSums<T>& sum) {
    const Vector<T> b = load(room.residual + here);
    store(room.x + here, Vector<T>{});
    store(room.direction + here, b);
    sum.add(b, b);
  });
  const double precision = precision_of_solution<T>(), limit = precision * precision * square;
  for (int64_t step = 0; step < most && square > limit; ++step) {
    if (step % 16 == 15 && stops()) break;
    apply();
    const double curvature = sum_of(of_product, [&](int64_t here, RowSums<T>& sum) {
      sum.add(load(room.direction + here), load(room.product + here));
    });
    const Vector<T> length = broadcast(T(curvature > 0 ? square / curvature : 0));
    const double before = square;
    square = sum_of(of_residual, [&](int64_t here, RowSums<T>& sum) {
      const Vector<T> residual = multiply_add(-length, load(room.product + here), load(room.residual + here));
      store(room.residual + here, residual);
      store(room.x + here, multiply_add(length, load(room.direction + here), load(room.x + here)));
      sum.add(residual, residual);
    });
    const Vector<T> ratio = broadcast(T(square / before));
    grid.each(rows, [&](int64_t row, int64_t c) {
      const int64_t here = row * grid.stride + c;
      store(room.direction + here, multiply_add(ratio, load(room.direction + here), load(room.residual + here)));
    });
    team.wait();
  }
  if (square <= __DBL_MAX__) return square <= limit;
  grid.each(rows,
            [&](int64_t row, int64_t c) { store(room.x + row * grid.stride + c, broadcast(T(__builtin_nan("")))); });
  return true;
}

}  // namespace fastunroll::FASTUNROLL_SET
