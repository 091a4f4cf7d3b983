// Layers over pictures: memory, threads and the gradient, which is compared with differences of values.
#include "check.h"
#include "fastunroll.h"

namespace fastunroll::testing {
namespace {

struct Shape {
  int64_t rows, columns;
  bool is_real, of_rows, has_weights;
  int64_t batch, layers, coils;  // no coils: 0
  int64_t factor = 0;            // of downsampled blurs
  int64_t margin = 0;            // pixels of the grid before those that are measured, and half of those behind
  int64_t around = 0;            // pixels before the picture in the grid, and half of those behind
  int64_t copied = 0;            // of these, in the same way
  bool periodic = false;

  int64_t grid_rows() const { return rows + 3 * around; }
  int64_t grid_columns() const { return columns + 3 * around; }
  int64_t parts() const { return is_real ? 1 : 2; }
  int64_t values() const { return rows * columns * parts(); }
  std::string text() const {
    return std::to_string(rows) + "x" + std::to_string(columns) + (is_real ? " real" : " complex") +
           (has_weights ? ", weights" : "") + (of_rows ? ", of rows" : "") + ", " + std::to_string(coils) +
           " coils, factor " + std::to_string(factor) + ", margin " + std::to_string(margin) + ", around " +
           std::to_string(around) + ", copied " + std::to_string(copied) + (periodic ? ", periodic" : "");
  }
};

// A scheme with its linear step.
struct Method {
  PictureStep linear;
  PictureScheme scheme;

  bool has_dual() const { return scheme == PictureScheme::admm || scheme == PictureScheme::primal_dual; }
  int64_t numbers() const {
    return scheme == PictureScheme::proximal_gradient ? 0 : scheme == PictureScheme::primal_dual ? 2 : 1;
  }
  std::string text() const { return ", scheme " + std::to_string(int(scheme)) + "." + std::to_string(int(linear)); }
};

constexpr Method fista{PictureStep::gradient, PictureScheme::fista};
constexpr Method methods[] = {{PictureStep::gradient, PictureScheme::proximal_gradient},
                              {PictureStep::solve, PictureScheme::proximal_gradient},
                              {PictureStep::solve, PictureScheme::fista},
                              {PictureStep::gradient, PictureScheme::admm},
                              {PictureStep::solve, PictureScheme::admm},
                              {PictureStep::gradient, PictureScheme::primal_dual}};

Margins on_all_sides(int64_t pixels) { return {pixels, pixels, 2 * pixels, 2 * pixels}; }

template <class T> struct Problem {
  Shape s;
  PicturePrior prior;
  Method method;
  bool gives_state;                         // whether s0 is given
  int64_t kept, filter_count, filter_size;  // of a bank of filters; else 0
  int64_t unsolved = 0;
  Array<T> z, x0, s0, d, packed, maps, step, theta, numbers, filters, weights;
  Array<T> low{T(0.3), T(0.8), T(0.5), T(-0.2)};  // of a wavelet
  Array<int64_t> moves{1, 2, 3, 0, 0, 3};

  Problem(const Shape& shape, PicturePrior prior, Method method)
      : s(shape),
        prior(prior),
        method(method),
        gives_state(shape.layers == 3),
        kept(shape.layers > 1 ? 2 : 1),
        filter_count(0),
        filter_size(0) {
    if (prior == PicturePrior::filter_bank) filter_count = 5, filter_size = s.rows < 3 || s.columns < 3 ? 1 : 3;
    Random random(uint64_t(s.rows * 1000 + s.columns));
    z = random.normals<T>(s.batch * s.values(), 1);
    x0 = random.normals<T>(int64_t(z.size()), 1);
    const int64_t width = s.is_real ? s.grid_columns() / 2 + 1 : s.grid_columns(), of_factor = s.factor ? 2 : 1;
    d = random.normals<T>(s.has_weights ? s.values() : (s.of_rows ? 1 : s.grid_rows()) * width * of_factor, 0.5);
    maps = random.normals<T>(2 * s.coils * s.rows * s.columns, 0.5);
    if (method.linear == PictureStep::solve && !s.factor) make_symmetric(width);
    step = random.normals<T>(s.layers, 0.2);
    for (T& t : step) t = T(0.3 + std::abs(double(t)));
    numbers = random.normals<T>(s.layers * method.numbers(), 0.2);
    theta = random.normals<T>(s.layers * thresholds(), filter_count ? 0.4 : 0.2);
    filters = random.normals<T>(s.layers * filter_count * filter_size * filter_size, 0.2);
    for (T& t : theta) t = T(std::abs(double(t)));
    s0 = random.normals<T>(int64_t(z.size()), 1);
    weights = random.normals<T>((kept + has_state()) * s.batch * s.values(), 1);  // of the results, in the loss
  }

  // h >= 0, and of real pictures h(-k) = h(k) where half a spectrum has both.
  void make_symmetric(int64_t width) {
    for (T& h : d) h = T(std::abs(double(h)));
    if (!s.is_real || s.of_rows || s.has_weights) return;
    for (int64_t row = 1; row < s.rows; ++row)
      for (int64_t c = 0; c < width; ++c) d[size_t((s.rows - row) * width + c)] = d[size_t(row * width + c)];
  }
  int64_t levels() const { return prior == PicturePrior::wavelet ? 2 : 0; }
  // Whether d after the last layer is a result.
  bool has_state() const { return method.scheme == PictureScheme::admm; }
  int64_t thresholds() const { return levels() ? 3 * levels() : filter_count ? filter_count : 1; }

  PictureLayers<T> layers(int threads) {
    Spectrum<T> spectrum{1, s.grid_rows(), s.grid_columns(), s.is_real, s.factor > 0, s.of_rows, 1, d.data(), nullptr};
    if (!s.has_weights) {
      packed.assign(size_t(spectrum_packed_size(spectrum)), T(0));
      spectrum.packed = packed.data();
      spectrum_pack(spectrum);
    }
    const PictureNormal<T> normal{spectrum,
                                  s.has_weights ? d.data() : nullptr,
                                  1,
                                  1,
                                  s.coils ? maps.data() : nullptr,
                                  s.coils,
                                  1,
                                  1,
                                  s.factor,
                                  on_all_sides(s.margin),
                                  on_all_sides(s.around),
                                  on_all_sides(s.copied),
                                  s.periodic};
    const bool has_theta = prior != PicturePrior::identity && prior != PicturePrior::box;
    return {s.batch,
            s.layers,
            threads,
            normal,
            {prior,
             T(-0.3),
             T(0.8),
             3,
             thresholds(),
             filters.data(),
             filter_count,
             filter_size,
             {low.data(), int64_t(low.size()), levels(), moves.data()}},
            method.linear,
            method.scheme,
            1,
            step.data(),
            has_theta ? theta.data() : nullptr,
            method.numbers() ? numbers.data() : nullptr,
            1,
            z.data(),
            x0.data(),
            gives_state ? s0.data() : nullptr,
            &unsolved,
            nullptr};
  }

  // With the layers of the first `saved_pictures`, which gradients() then reads. Dual variables follow: that of
  // primal_dual has no gradient, and no part in the loss.
  Array<T> found(int threads, int64_t saved_pictures = 0) {
    Array<T> x(size_t(kept) * z.size());
    saved.assign(size_t(4 * saved_pictures * s.layers * s.values()), T(0));
    Array<T> state(method.has_dual() ? z.size() : 0);
    picture_forward<T>(
        {layers(threads), kept, x.data(), method.has_dual() ? state.data() : nullptr, saved_pictures, saved.data()});
    CHECK(unsolved == 0, "pictures: conjugate gradients");
    x.insert(x.end(), state.begin(), state.end());
    return x;
  }
  double loss() {
    const Array<T> x = found(1);
    double sum = 0;
    for (size_t i = 0; i < weights.size(); ++i) sum += double(x[i]) * double(weights[i]);
    return sum;
  }
  // z, x0, s0, step, theta, numbers, filters: those of numbers summed over the pictures.
  Array<T> gradients(int threads, int64_t saved_pictures = 0) {
    const PictureLayers<T> of = layers(threads);
    Array<T> to_z(z.size()), to_x0(z.size()), to_s0(z.size()), of_layers[4];
    const Array<T>* const given[] = {&step, &theta, &numbers, &filters};
    for (int i = 0; i < 4; ++i) of_layers[i].assign(given[i]->size() * size_t(s.batch), T(0));
    const T* const of_state = has_state() ? weights.data() + size_t(kept) * z.size() : nullptr;
    picture_backward<T>({of, kept, weights.data(), of_state, to_z.data(), to_x0.data(),
                         gives_state ? to_s0.data() : nullptr, of_layers[0].data(),
                         of.theta ? of_layers[1].data() : nullptr, of.numbers ? of_layers[2].data() : nullptr,
                         filter_count ? of_layers[3].data() : nullptr, saved_pictures, saved.data()});
    Array<T> all = to_z;
    all.insert(all.end(), to_x0.begin(), to_x0.end());
    all.insert(all.end(), to_s0.begin(), to_s0.end());
    for (const Array<T>& n : of_layers) {
      const int64_t size = int64_t(n.size()) / (s.layers * s.batch);  // of a layer
      for (int64_t k = 0; k < s.layers; ++k)
        for (int64_t j = 0; j < size; ++j) {
          T sum = 0;
          for (int64_t b = 0; b < s.batch; ++b) sum += n[size_t((k * s.batch + b) * size + j)];
          all.push_back(sum);
        }
    }
    return all;
  }

 private:
  Array<T> saved;
};

// The gradient along a random direction of all arguments, by values.
void compare_with_differences(Problem<double>& problem, const std::string& what) {
  const Array<double> gradient = problem.gradients(1);
  Array<double>* const arguments[] = {&problem.z,     &problem.x0,      &problem.s0,     &problem.step,
                                      &problem.theta, &problem.numbers, &problem.filters};
  Random random(3);
  Array<double> direction = random.normals<double>(int64_t(gradient.size()), 1);
  double along = 0;
  for (size_t i = 0; i < gradient.size(); ++i) along += gradient[i] * direction[i];
  const auto moved = [&](double by) {
    size_t at = 0;
    for (Array<double>* argument : arguments)
      for (double& value : *argument) value += by * direction[at++];
  };
  constexpr double least = 1e-7;
  moved(least);
  const double above = problem.loss();
  moved(-2 * least);
  const double below = problem.loss();
  moved(least);
  const double wanted = (above - below) / (2 * least);
  CHECK(std::abs(along - wanted) <= 1e-4 * (1 + std::abs(wanted)), what + ": gradient");
}

template <class T> void compare(const Shape& shape, PicturePrior prior, Method method = fista) {
  const bool has_threads = shape.batch * shape.grid_rows() * shape.grid_columns() >= pixels_of_threads;
  if (quick && !has_threads) return;
  const Settings restored;
  for (const char* set : usable_sets()) {
    use_instruction_set(set);
    Problem<T> problem(shape, prior, method);
    const std::string what = std::string("pictures ") + set + " " + type_name<T> + " " + shape.text() + ", prior " +
                             std::to_string(int(prior)) + method.text();
    const Array<T> x = problem.found(quick ? 3 : 1), gradients = problem.gradients(quick ? 3 : 1);
    if (!shape.is_real || shape.has_weights) {  // rows of real ones go through transforms in pairs a vector apart
      record("pictures", x);
      if (prior != PicturePrior::wavelet)  // whose gradient rounds the end of a row in another way
        record("pictures", Array<T>(gradients.begin(), gradients.begin() + 2 * int64_t(problem.z.size())));
    }
    if (has_threads && !quick)
      CHECK(same_bits(problem.found(3), x) && same_bits(problem.gradients(3), gradients), what + ": threads");
    const int64_t saved = prior == PicturePrior::wavelet ? 0 : shape.batch - 1;
    problem.found(2, saved);
    CHECK(same_bits(problem.gradients(2, saved), gradients), what + ": saved layers");
    if constexpr (sizeof(T) == 8) compare_with_differences(problem, what);
  }
}

}  // namespace

void test_pictures() {
  for (PicturePrior prior : {PicturePrior::identity, PicturePrior::soft, PicturePrior::nonnegative, PicturePrior::box,
                             PicturePrior::total_variation, PicturePrior::filter_bank}) {
    const bool any = prior != PicturePrior::nonnegative && prior != PicturePrior::box;  // complex, too
    for (bool is_real : {true, false}) {
      if (!is_real && !any) continue;
      for (bool of_rows : {false, true}) {
        compare<double>({7, 18, is_real, of_rows, false, 4, 3, 0}, prior);
        compare<float>({1, 1, is_real, of_rows, false, 2, 1, 0}, prior);
      }
      compare<double>({5, 9, is_real, false, true, 4, 2, 0}, prior);
      compare<float>({33, 20, is_real, false, true, 2, 2, 0}, prior);
    }
    if (any) compare<double>({6, 10, false, false, false, 3, 2, 3}, prior);
    compare<float>({99, 100, true, false, false, 2, 2, 0}, prior);  // three threads share each, two have one each
    compare<float>({140, 85, true, false, true, 1, 3, 0}, prior);
  }
  for (bool is_real : {true, false}) {
    compare<double>({12, 20, is_real, false, true, 3, 3, 0}, PicturePrior::wavelet);
    compare<double>({4, 4, is_real, false, false, 2, 2, 0}, PicturePrior::wavelet);
    compare<float>({140, 84, is_real, false, true, 1, 3, 0}, PicturePrior::wavelet);  // threads share a picture
  }
  for (const Method& method : methods) {
    for (PicturePrior prior : {PicturePrior::soft, PicturePrior::box, PicturePrior::total_variation,
                               PicturePrior::filter_bank, PicturePrior::wavelet}) {
      compare<double>({12, 20, true, false, false, 3, 3, 0}, prior, method);
      compare<double>({8, 12, true, false, true, 3, 3, 0}, prior, method);
    }
    compare<double>({7, 9, true, false, false, 2, 3, 0}, PicturePrior::identity, method);
    compare<double>({7, 18, false, true, false, 3, 3, 0}, PicturePrior::soft, method);
    compare<double>({6, 10, false, false, false, 3, 2, 3}, PicturePrior::total_variation, method);
    compare<float>({1, 1, true, true, false, 2, 1, 0}, PicturePrior::soft, method);
    compare<double>({6, 12, true, false, false, 3, 3, 0, 3}, PicturePrior::total_variation, method);
    compare<double>({6, 9, false, true, false, 3, 3, 0, 3}, PicturePrior::soft, method);
    compare<double>({9, 12, true, false, false, 3, 3, 0, 3, 1}, PicturePrior::soft, method);
    compare<float>({8, 11, false, false, false, 3, 2, 0, 1, 2}, PicturePrior::soft, method);
    compare<double>({6, 9, true, false, false, 3, 3, 0, 3, 2, 2, 2}, PicturePrior::total_variation, method);
    compare<double>({5, 7, false, false, false, 3, 2, 0, 1, 3, 3, 1}, PicturePrior::soft, method);
    compare<double>({4, 6, true, false, false, 3, 3, 0, 2, 1, 1}, PicturePrior::soft, method);
    compare<double>({9, 12, true, false, false, 3, 3, 0, 3, 2, 1}, PicturePrior::box, method);
    compare<double>({6, 9, true, false, false, 3, 3, 0, 3, 2, 2, 2, true}, PicturePrior::total_variation, method);
    compare<double>({5, 7, false, false, false, 3, 2, 0, 1, 3, 3, 1, true}, PicturePrior::soft, method);
    compare<float>({104, 98, true, false, false, 2, 2, 0, 2, 2, 2, 1, true}, PicturePrior::soft, method);
    compare<float>({5, 8, false, false, false, 3, 2, 0, 1, 2, 1}, PicturePrior::soft, method);
    compare<float>({97, 92, true, false, false, 2, 2, 0, 1, 3, 1}, PicturePrior::total_variation, method);
    compare<float>({104, 98, true, false, false, 2, 2, 0, 2, 2, 2, 1}, PicturePrior::soft, method);  // threads share it
    compare<float>({100, 98, false, false, false, 2, 2, 0, 2}, PicturePrior::soft, method);
    compare<float>({99, 100, true, false, false, 2, 2, 0}, PicturePrior::total_variation, method);
    compare<float>({140, 85, false, false, true, 1, 3, 0}, PicturePrior::soft, method);
  }
}

}  // namespace fastunroll::testing
