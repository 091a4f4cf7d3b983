// Networks in one launch, emulated: parameters laid out, all layers, and their gradient.
#include <algorithm>

#include "fastunroll_cuda.h"
#include "problem.h"

namespace fastunroll::testing {
namespace {

using cuda::Precision;

constexpr double precise = 3e-6, rounded = 1e-2;

int padded(int64_t size) { return int((size + cuda::fused_padding - 1) / cuda::fused_padding * cuda::fused_padding); }

// A parameter as the kernels read it.
struct Laid {
  Array<float> values;
  int64_t stride = 0;  // between layers
  const float* get() const { return values.empty() ? nullptr : values.data(); }
};

struct Shape {
  int64_t rows, columns, row_step, column_step;
  int padded_rows, padded_columns;
};

void fill(const Parameter<float>& from, const Shape& shape, float* out, int64_t layer_stride, int row_stride) {
  cuda::Pack<float, float> p = {};
  p.layers = int(from.pointers.size());
  for (int l = 0; l < p.layers; ++l) p.from[l] = from.pointers[size_t(l)];
  p.rows = int(shape.rows);
  p.columns = int(shape.columns);
  p.row_step = shape.row_step;
  p.column_step = shape.column_step;
  p.out = out;
  p.padded_rows = shape.padded_rows;
  p.padded_columns = shape.padded_columns;
  p.layer_stride = layer_stride;
  p.row_stride = row_stride;
  CHECK(!cuda::pack(cuda::Stream{0, nullptr}, p) && !finished(), "layout");
}

Laid laid(const Parameter<float>& from, const Shape& shape) {
  const int64_t size = int64_t(shape.padded_rows) * shape.padded_columns, layers = int64_t(from.pointers.size());
  Laid out{Array<float>(size_t(layers * size)), layers > 1 ? size : 0};
  if (layers > 0) fill(from, shape, out.values.data(), size, shape.padded_columns);
  return out;
}

Laid row(const Parameter<float>& from, int64_t columns, int64_t padded_columns) {
  return laid(from, {1, columns, 0, from.size == 1 ? 0 : 1, 1, int(padded_columns)});
}

class Fused {
 public:
  explicit Fused(const Problem<float>& problem)
      : p_(problem), net_(p_.network()), m_(int(net_.m)), n_(int(net_.n)), wide_(padded(m_)), long_(padded(n_)) {
    const auto& given = p_.given.parameters;
    step_ = row(given[2], m_, wide_);
    theta_ = row(given[3], n_ / net_.group, long_ / net_.group);
    for (int64_t k = 0; k < net_.layers; ++k) {
      if (net_.gain.given()) gain_.push_back(net_.gain.value(k));
      if (net_.beta.given()) beta_.push_back(net_.beta.value(k));
    }
  }

  void forward(Precision precision, const cuda::FusedShape& shape, const std::string& what) const {
    const auto& given = p_.given.parameters;
    Laid first, second;
    if (net_.is_gradient_step()) {
      first = laid(given[0], {m_, n_, n_, 1, wide_, long_});
      second = laid(given[net_.W2.given() ? 1 : 0], {n_, m_, 1, n_, long_, wide_});
    } else {
      const int64_t layers = std::max(net_.W1.count, net_.W2.count), size = int64_t(long_) * (wide_ + long_);
      first = {Array<float>(size_t(layers * size)), layers > 1 ? size : 0};
      fill_all(given[0], layers, {n_, m_, m_, 1, long_, wide_}, first.values.data(), size);
      fill_all(given[1], layers, {n_, n_, n_, 1, long_, long_}, first.values.data() + wide_, size);
    }
    Array<float> x(size_t(net_.layers * p_.size.batch * n_)), last(size_t(p_.size.batch * n_));
    Array<float> s(size_t(p_.size.batch * net_.state_size()));
    const cuda::Fused<float> call = {
        layers_of(first, second),       data(p_.given.y), data(p_.given.x0), data(p_.given.s0), x.data(), last.data(),
        s.empty() ? nullptr : s.data(), nullptr};
    const char* problem = cuda::fused_network(cuda::Stream{0, nullptr}, precision, shape, call);
    if (!problem) problem = finished();
    CHECK(!problem, what + (problem ? problem : ""));
    const double off = precision == Precision::single ? precise : rounded;
    const Reference wanted = reference(p_);
    CHECK(close(x, wanted.x, off), what + "x");
    CHECK(last == Array<float>(x.end() - int64_t(last.size()), x.end()), what + "the last layer");
    if (precision == Precision::single) CHECK(close(s, wanted.s, 5 * off), what + "the second state");
  }

  // The gradient of x0, which all layers' others go into.
  void backward(const cuda::FusedShape& shape, const std::string& what) const {
    const auto& given = p_.given.parameters;
    Laid first, second;
    if (net_.is_gradient_step()) {
      first = laid(given[net_.W2.given() ? 1 : 0], {m_, n_, n_, 1, wide_, long_});
      second = laid(given[0], {n_, m_, 1, n_, long_, wide_});
    } else {
      first = laid(given[1], {n_, n_, 1, n_, long_, long_});
    }
    const Result<float> result = p_.forward();
    Arguments<float> wanted = p_.backward(result);
    const Array<float> saved = saved_of_device(result);
    Array<float> dz(result.x.size()), h(size_t(net_.layers * p_.size.batch * m_)), start(wanted.x0.size());
    const int64_t tiles = (p_.size.batch + 16 * shape.row_tiles - 1) / (16 * shape.row_tiles);
    Array<float> theta(size_t(tiles * net_.layers * long_)), sums(size_t(tiles * net_.layers * 8 * shape.blocks)),
        gain(sums.size());
    const cuda::FusedBackward<float> call = {layers_of(first, second),
                                             result.x.data(),
                                             data(p_.given.x0),
                                             saved.data(),
                                             p_.grad.data(),
                                             true,
                                             dz.data(),
                                             net_.is_gradient_step() ? h.data() : nullptr,
                                             start.data(),
                                             theta.data(),
                                             sums.data(),
                                             gain.data()};
    const char* problem = cuda::fused_gradient(cuda::Stream{0, nullptr}, Precision::single, shape, call);
    if (!problem) problem = finished();
    CHECK(!problem, what + (problem ? problem : ""));
    CHECK(close(start, Array<double>(wanted.x0.begin(), wanted.x0.end()), 1e-4), what + "the gradient of x0");
  }

 private:
  const Problem<float>& p_;
  Network<float> net_;
  int m_, n_, wide_, long_;
  Laid step_, theta_;
  Array<float> gain_, beta_;

  // Without the residuals of gradient steps, which devices save for AMP alone.
  Array<float> saved_of_device(const Result<float>& r) const {
    const int64_t size = net_.saved_size(), kept = net_.scheme == Scheme::amp ? net_.m : net_.residual_at();
    Array<float> out;
    for (auto row = r.saved.begin(); size > 0 && row != r.saved.end(); row += size)
      out.insert(out.end(), row, row + kept);
    return out;
  }

  cuda::FusedLayers<float> layers_of(const Laid& first, const Laid& second) const {
    return {p_.size.batch,
            int(net_.layers),
            m_,
            n_,
            wide_,
            long_,
            net_.is_gradient_step(),
            net_.scheme,
            net_.prox_kind,
            int(net_.group),
            first.get(),
            second.get(),
            first.stride,
            second.stride,
            step_.get(),
            theta_.get(),
            step_.stride,
            theta_.stride,
            data(gain_),
            data(beta_)};
  }

  static const float* data(const Array<float>& a) { return a.empty() ? nullptr : a.data(); }

  // Layer by layer where all of them share a matrix that stands beside those of their own.
  void fill_all(const Parameter<float>& from, int64_t layers, const Shape& shape, float* out, int64_t stride) const {
    for (int64_t l = 0; l < layers; ++l) {
      Parameter<float> one;
      one.add(from.arrays[from.arrays.size() == 1 ? 0 : size_t(l)]);
      fill(one, shape, out + l * stride, stride, wide_ + long_);
    }
  }
};

}  // namespace

void test_fused() {
  const cuda::FusedShape shapes[] = {{1, 1}, {2, 1}, {1, 2}, {2, 2}, {1, 4}, {2, 4}};
  size_t turn = 0;
  cuda::Device device = {};
  CHECK(!cuda::describe(0, &device), "the device");
  for (const Form& form : forms()) {
    if (form.linear == LinearStep::gram || form.selects || form.group > 2) continue;
    for (const bool given : {false, true}) {
      Options options;
      options.x0 = options.vector = given;
      options.s0 = given && form.scheme != Scheme::proximal_gradient;
      const cuda::FusedShape shape = shapes[turn++ % (device.clusters ? std::size(shapes) : 2)];
      const Size size = {29, 100 * shape.blocks - 3, 2, 16 * shape.row_tiles + 1};
      const std::string what = text(form, size, options) + " in one launch: ";
      Problem<float> p(form, size, options);
      std::fill(p.grad_s.begin(), p.grad_s.end(), 0.0f);
      Fused(p).forward(Precision::single, shape, what);
      if (!options.s0) Fused(p).backward(shape, what);
      if (device.clusters && p.given.parameters[0].arrays.size() == 1 && p.given.parameters[1].arrays.size() <= 1) {
        Fused(p).forward(Precision::single, {1, 8, true}, what + "8 blocks with weights in shared memory: ");
        if (given) Fused(p).forward(Precision::tf32, {1, 16, true}, what + "16 blocks with weights in shared memory: ");
      }
      const Problem<float> small(form, {1, 1, 3, 1}, options);
      Fused(small).forward(given ? Precision::single : Precision::tf32, {1, 1}, what);
    }
  }
  cuda::FusedLayers<float> large = {};
  large.padded_m = 320;
  large.padded_n = 608;
  CHECK(!cuda::fused_max_active_clusters({0, nullptr}, Precision::single, {1, 4}, large),
        "no kernel of more than 512 columns");
  CHECK(!cuda::fused_max_active_clusters({0, nullptr}, Precision::single, {3, 4}, large), "no kernel of such a shape");
}

}  // namespace fastunroll::testing
