#include "cpu/adjoint.h"
#include "cpu/threads.h"

namespace fastunroll::FASTUNROLL_SET {

template <class T>
BackwardMemory<T>::BackwardMemory(const Backward<T>& arguments, Workspace& memory) : a(arguments), net(a.net) {
  const int64_t m = net.m, n = net.n, batch = a.batch;
  stride = tile_stride<T>(n);
  stride_y = tile_stride<T>(m);
  words = tile_words<T>(n);
  above = dense_above();
  threads = useful_threads(net, batch, a.threads);
  // Sums that all layers share are added to while a few samples are in the cache; sums of single layers seldom.
  const int64_t longest = shares_matrices(net) ? 256 : 2048;
  segment = batch < longest ? batch : longest;
  task = 64;
  while (task > strip && blocks(segment, task) < 2 * threads) task /= 2;

  theta = rows_of(net.theta, n / net.group, memory);
  step = rows_of(net.step, m, memory);
  g_x = memory.take<T>(segment * stride);
  g_state = net.state_size() ? memory.take<T>(segment * state_stride()) : nullptr;
  const bool sums_bias = !net.is_gradient_step() && net.W1.shared() && (a.grad_W1.given() || a.grad_y);
  g_bias = sums_bias ? memory.take<T>(segment * stride) : nullptr;
  g_y = a.grad_y ? memory.take<T>(segment * stride_y) : nullptr;

  const auto columns = [&](const PerLayer<T>& wanted, int64_t size) {
    return ColumnSums<T>::make(wanted.given(), size, segment, net.layers, memory);
  };
  to_theta = columns(a.grad_theta, n / net.group);
  to_gain = columns(a.grad_gain, n);
  to_step = columns(a.grad_step, m);
  to_blend = columns(a.grad_beta, n);

  const auto sum = [&](bool wanted, bool stacks, int64_t lowest, int64_t rows, int64_t columns,
                       const Transposed<T>& g) {
    constexpr int64_t max_rows = 256;
    const int64_t rows_of_layer = blocks(segment, strip) * strip;
    const int64_t at_once = stacks && rows_of_layer < max_rows ? max_rows / rows_of_layer : 1;
    SampleSum<T> made{g, {}, net.layers, lowest, at_once};
    if (wanted && !g.data) made.g = Transposed<T>::make(rows, at_once * rows_of_layer, memory);
    if (wanted) made.x = Stacked<T>::make(columns, at_once * rows_of_layer, memory);
    return made;
  };
  constexpr int64_t few = 8;
  upright = net.is_gradient_step() && batch <= few;
  if (net.is_gradient_step()) {  // W = A takes part in both products, and its gradient comes from both
    const int64_t rows = upright ? m : n, columns_of_sum = upright ? n : m;
    const bool both = net.is_own_adjoint();
    of_W2 = sum(both ? a.grad_W1.given() : a.grad_W2.given(), both ? net.W1.shared() : net.W2.shared(), 0, rows,
                columns_of_sum, {});
    of_W1 = sum(a.grad_W1.given(), net.W1.shared(), 0, rows, columns_of_sum, {});
  } else {  // both sums have the same rows
    const bool with_first = a.grad_W1.given() && !net.W1.shared();
    of_W2 = sum(a.grad_W2.given(), net.W2.shared() && !with_first, starts_from_zero(0), n, n, {});
    of_W1 = sum(a.grad_W1.given(), false, 0, n, m, of_W2.g);
    if (!of_W2.g.data) of_W2.g = of_W1.g;
  }
  const auto transposed = [&](const PerLayer<T>& wanted) {
    return net.is_gradient_step() && !upright && wanted.given() ? memory.take<T>(wanted.count * n * m) : nullptr;
  };
  turned_W1 = transposed(a.grad_W1);
  turned_W2 = transposed(a.grad_W2);

  adjoint = adjoint_factors(net, memory);
  if (!net.is_gradient_step() && !g_y) adjoint.first = {};  // g W1 is the gradient of y alone
  pack_if_used_again(adjoint, net, batch, threads, memory);

  const int64_t rows_of_sums = blocks(deepest(net), threads), rows = larger(task, rows_of_sums);
  const int64_t values = larger(task * deepest(net), rows_of_sums * larger(of_W1.x.most, of_W2.x.most));
  tasks = memory.take<TaskMemory<T>>(threads);
  for (int t = 0; t < threads; ++t) {
    TaskMemory<T>& s = tasks[t];
    s.g = memory.take<T>(task * stride);
    s.v = memory.take<T>(task * stride);
    s.residual = net.is_gradient_step() ? memory.take<T>(task * stride_y) : nullptr;
    s.seen = net.is_gradient_step() ? memory.take<T>(task * stride_y) : nullptr;
    s.along = memory.take<T>(stride);
    s.magnitudes = memory.take<T>(stride);
    s.scales = memory.take<T>(task);
    s.norms = memory.take<T>(task);
    s.shares = memory.take<T>(task);
    s.g_masks = memory.take<uint64_t>(task * words);
    s.products = ProductScratch<T>::make(rows, values, memory, memory.take<T>(buffer_size(adjoint)));
  }
}

namespace {

template <class T> class BackwardPass {
 public:
  BackwardPass(const Backward<T>& arguments, Workspace& memory)
      : m(arguments, memory), a(m.a), net(m.net), queues(memory.take<Queue>(net.layers + 2)) {}
  void run();

 private:
  BackwardMemory<T> m;
  const Backward<T>& a;
  const Network<T>& net;
  Queue* queues;         // of tasks: one for each layer, and two for the rest
  int64_t stop_at = -1;  // the layer with which all of the team stop

  void start_segment();
  void run_segment(Team team);
  void finish_segment();
  void layer_of_task(int64_t k, int64_t begin, TaskMemory<T>& s, const Team& team);
  void through_prox(int64_t k, int64_t b, T* g, int64_t row, TaskMemory<T>& s);
  void amp_row(int64_t k, int64_t b, int64_t row, const Prox<T>& prox, T scale, TaskMemory<T>& s);
  void through_input(int64_t k, int64_t b);
  void finish_shared_bias(int64_t begin, TaskMemory<T>& s);
  void sum(const SampleSum<T>& factors, int64_t rows, bool add, T* out, int64_t part, TaskMemory<T>& s);
  void sums_of_layer(int64_t k, int64_t part, TaskMemory<T>& s);
  void gradient_step_sum(int64_t k, const PerLayer<T>& out, const SampleSum<T>& factors, T* sums, bool follows,
                         int64_t part, TaskMemory<T>& s);

  const ColumnSums<T>* const column_sums[4] = {&m.to_theta, &m.to_gain, &m.to_step, &m.to_blend};
  bool is_last_segment() const { return m.first_sample + m.count == a.batch; }
  // Whether something was summed into this gradient before, in this segment the stacks before this one.
  bool adds_to(const PerLayer<T>& out, int64_t stack) const {
    return m.first_sample > 0 || (out.shared() && stack > 0);
  }
};

// What the passes over layers add to.
template <class T> void BackwardPass<T>::start_segment() {
  for (int64_t i = 0; i < net.layers + 2; ++i) queues[i] = Queue();
  if (m.g_y) memset(m.g_y, 0, size_t(m.count * m.stride_y) * sizeof(T));
  if (m.g_state) {
    const int64_t size = net.state_size(), stride = m.state_stride();
    memset(m.g_state, 0, size_t(m.count * stride) * sizeof(T));
    for (int64_t b = 0; a.grad_s && b < m.count; ++b)
      memcpy(m.g_state + b * stride, m.given(a.grad_s, size, b), size_t(size) * sizeof(T));
  }
}

// amp, s+ = share r: the gradients of the gain in the share, and of the scale of theta.
template <class T>
void BackwardPass<T>::amp_row(int64_t k, int64_t b, int64_t row, const Prox<T>& prox, T scale, TaskMemory<T>& s) {
  const int64_t size = net.m;
  const T* residual = m.saved_of(b, k);
  T* const to_theta = m.to_theta.again_at(b);
  T of_scale = 0;
  for (int64_t c = 0; c < net.n / net.group; ++c) {
    if (to_theta) to_theta[c] += s.along[c] * scale;
    if (prox.theta) of_scale += s.along[c] * prox.theta[c];
  }
  s.scales[row] = scale == 0 ? 0 : of_scale / T(size);
  s.norms[row] = scale == 0 ? 1 : scale;  // divided by on its own: the quotient of both may overflow
  const T* x = m.given(a.x, net.n, b, k);
  int64_t nonzeros = 0;
  for (int64_t c = 0; c < net.n; ++c) nonzeros += x[c] != 0;
  s.shares[row] = prox.gain * T(nonzeros) / T(size);
  if (T* const to_gain = m.to_gain.again_at(b))
    to_gain[0] += s.shares[row] * dot(m.g_state + b * m.stride_y, residual, size, T(1));
}

// From the gradient of x+ of sample b in layer k to the gradient of z.
template <class T> void BackwardPass<T>::through_prox(int64_t k, int64_t b, T* g, int64_t row, TaskMemory<T>& s) {
  const int64_t n = net.n;
  const bool last = k + 1 == net.layers;
  const T* grad_x = a.every_layer ? m.given(a.grad, n, b, k) : last ? m.given(a.grad, n, b) : nullptr;
  T* const state = net.scheme == Scheme::admm ? m.g_state + b * m.stride : nullptr;
  const Vector<T> beta = broadcast(beta_of(net, k));
  for (int64_t c = 0; c < n; c += lanes<T>) {
    Vector<T> v = last ? Vector<T>{} : load(m.g_x + b * m.stride + c);
    if (grad_x) v += load_some(grad_x + c, n - c);
    if (state) v -= beta * load(state + c);  // s+ = s + beta (z - x+) depends on x+ too
    store(g + c, v);
  }
  const Prox<T> prox = prox_of(net, m.theta, k);
  const T* out = m.given(a.x, n, b, k);
  T* const to_gain = m.to_gain.at(b);
  T* to_theta = m.to_theta.at(b);
  T scale = 1;
  if (net.scheme == Scheme::amp) {
    to_theta = s.along;
    memset(s.along, 0, size_t(m.stride) * sizeof(T));
    scale = rms(m.saved_of(b, k), net.m);
  }
  prox.gradient_of_row(out, m.given(a.selected, n / net.group, b, k), g, scale, s.magnitudes, to_theta, to_gain);
  if (net.scheme == Scheme::amp) amp_row(k, b, row, prox, scale, s);
  if (!state) return;
  const T* dual_residual = m.saved_of(b, k) + n;
  T* const to_blend = m.to_blend.at(b);
  for (int64_t c = 0; c < n; c += lanes<T>) {
    const Vector<T> before = load(g + c), of_state = load(state + c);
    if (to_blend) store(to_blend + c, multiply_add(of_state, load_some(dual_residual + c, n - c), load(to_blend + c)));
    store(g + c, multiply_add(beta, of_state, before));
    store(state + c, before + of_state);
  }
}

// From the gradient of v, in g_x, to those of x and s.
template <class T> void BackwardPass<T>::through_input(int64_t k, int64_t b) {
  const int64_t n = net.n;
  T *g = m.g_x + b * m.stride, *state = m.g_state + b * m.stride;
  if (net.scheme == Scheme::admm) {
    for (int64_t c = 0; c < n; c += lanes<T>) store(state + c, load(state + c) - load(g + c));
    return;
  }
  if (net.scheme != Scheme::fista) return;
  T* const to_blend = m.to_blend.at(b);
  if (k == 0 && !a.s0) {  // x - x
    for (int64_t c = 0; c < n; c += lanes<T>) store(g + c, load(g + c) + load(state + c));
    return;
  }
  const T *x = m.iterate(k, b), *before = m.iterate_before(k, b);
  const Vector<T> beta = broadcast(beta_of(net, k));
  for (int64_t c = 0; c < n; c += lanes<T>) {
    const Vector<T> grad_v = load(g + c), of_difference = beta * grad_v;
    if (to_blend) {
      const Vector<T> now = x ? load_some(x + c, n - c) : Vector<T>{};
      const Vector<T> then = before ? load_some(before + c, n - c) : Vector<T>{};
      store(to_blend + c, multiply_add(grad_v, now - then, load(to_blend + c)));
    }
    store(g + c, grad_v + of_difference + load(state + c));
    store(state + c, -of_difference);
  }
}

template <class T> void BackwardPass<T>::layer_of_task(int64_t k, int64_t begin, TaskMemory<T>& s, const Team& team) {
  const int64_t count = m.rows_of_task(begin);
  for (int64_t r = 0; team.rank == 0 && r < count; ++r) {
    T* g = s.g + r * m.stride;
    through_prox(k, begin + r, g, r, s);
    mark_row(s.g_masks + r * m.words, m.words, g, net.n);
  }
  team.wait();
  const Rows<T> g{s.g, m.stride, count, s.g_masks, m.words};
  if (net.is_gradient_step())
    adjoint_gradient_step(m, k, begin, g, s, team);
  else
    adjoint_affine_step(m, k, begin, g, s, team);
  if (!m.needs_input(k) || !(net.scheme == Scheme::fista || net.scheme == Scheme::admm)) return;
  team.wait();
  for (int64_t r = 0; team.rank == 0 && r < count; ++r) through_input(k, begin + r);
}

// Affine steps that share W1: the gradients of W1 and y follow from a sum over layers.
template <class T> void BackwardPass<T>::finish_shared_bias(int64_t begin, TaskMemory<T>& s) {
  const int64_t count = m.rows_of_task(begin);
  const T* sums = m.g_bias + begin * m.stride;
  for (int64_t r = 0; r < count; ++r) mark_row(s.g_masks + r * m.words, m.words, sums + r * m.stride, net.n);
  const Rows<T> g{sums, m.stride, count, s.g_masks, m.words};
  if (m.g_y) add_to_y(m, m.adjoint.first.of(0), begin, g, s, Team{0, 1, nullptr});
  if (m.of_W1.wanted()) m.of_W1.put_g({}, begin, g);
}

template <class T>
void BackwardPass<T>::sum(const SampleSum<T>& factors, int64_t rows, bool add, T* out, int64_t part, TaskMemory<T>& s) {
  const int64_t all = factors.g.rows, first = all * part / m.threads, last = all * (part + 1) / m.threads;
  if (add || rows > few_in_place) {
    // Few rows at a time are written in the order of memory. It pays where samples are few, or zeros are not skipped.
    const bool in_order = !add && (rows <= strip || density(factors.g.part(first, last), rows) > m.above);
    const int64_t at_once = in_order ? 24 : last - first;
    for (int64_t i = first; i < last; i += at_once)
      sample_sum(factors.g, factors.x, rows, i, i + at_once < last ? i + at_once : last, add, out, s.products, m.above);
    return;
  }
  with_count(rows, [&](auto count) {
    constexpr int samples = decltype(count)::value;
    outer_by_rows<samples>(factors.g.part(first, last), factors.x.factor(samples), out + first * factors.x.columns);
  });
}

// Gradient steps: the sum is made upright; or transposed, (n, m), and turned once it is complete.
template <class T>
void BackwardPass<T>::gradient_step_sum(int64_t k, const PerLayer<T>& out, const SampleSum<T>& factors, T* sums,
                                        bool follows, int64_t part, TaskMemory<T>& s) {
  const auto place = factors.place(k, m.count);
  if (!place.completes) return;
  const bool complete = is_last_segment() && (!out.shared() || k == 0);
  T* const own = m.upright ? out.of(k) : sums + out.index(k) * net.n * net.m;
  sum(factors, place.rows, follows || adds_to(out, place.stack), own, part, s);
  const bool more = &factors == &m.of_W2 && net.is_own_adjoint();
  if (complete && !more && !m.upright)
    transpose_rows(own, net.m, net.n * part / m.threads, net.n * (part + 1) / m.threads, out.of(k), net.n);
}

template <class T> void BackwardPass<T>::sums_of_layer(int64_t k, int64_t part, TaskMemory<T>& s) {
  if (net.is_gradient_step()) {
    const bool both = net.is_own_adjoint();
    if (m.of_W2.wanted())
      gradient_step_sum(k, both ? a.grad_W1 : a.grad_W2, m.of_W2, both ? m.turned_W1 : m.turned_W2, false, part, s);
    if (m.of_W1.wanted()) gradient_step_sum(k, a.grad_W1, m.of_W1, m.turned_W1, both, part, s);
    return;
  }
  const auto place = m.of_W2.place(k, m.count);
  if (m.of_W2.wanted() && !m.starts_from_zero(k) && place.completes)
    sum(m.of_W2, place.rows, adds_to(a.grad_W2, place.stack), a.grad_W2.of(k), part, s);
  if (m.of_W1.wanted() && !net.W1.shared())
    sum(m.of_W1, m.count, adds_to(a.grad_W1, place.stack), a.grad_W1.of(k), part, s);
}

template <class T> void BackwardPass<T>::finish_segment() {
  const auto copy = [&](T* out, const T* rows, int64_t stride, int64_t columns) {
    for (int64_t b = 0; out && b < m.count; ++b)
      memcpy(m.given(out, columns, b), rows + b * stride, size_t(columns) * sizeof(T));
  };
  copy(a.grad_y, m.g_y, m.stride_y, net.m);
  copy(a.grad_x0, m.g_x, m.stride, net.n);
  copy(a.grad_s0, m.g_state, m.state_stride(), net.state_size());
}

// One thread's part of the way of a segment's samples through all layers.
template <class T> void BackwardPass<T>::run_segment(Team team) {
  TaskMemory<T>& s = m.tasks[team.rank];
  TaskMemory<T> shared = m.tasks[0];  // of the task that the team shares
  shared.products = s.products;
  const int64_t count = blocks(m.count, m.task);
  const auto each_part = [&](auto work) {
    for (int64_t part = team.rank; part < m.threads; part += team.size) work(part);
  };
  if (!net.is_gradient_step() && m.of_W1.wanted())
    for (int64_t i; queues[net.layers].take(i, count);)
      m.of_W1.put_x({0, 0, m.count, true}, i * m.task,
                    {m.given(a.y, net.m, i * m.task), net.m, m.rows_of_task(i * m.task), nullptr, 0});
  for (int64_t k = net.layers - 1; k >= 0; --k) {
    if (count == 1)
      layer_of_task(k, 0, shared, team);
    else
      for (int64_t i; queues[k].take(i, count);) layer_of_task(k, i * m.task, s, Team{0, 1, nullptr});
    team.wait();
    if (team.rank == 0)
      for (const ColumnSums<T>* sums : column_sums) sums->add_strips(k, m.count);
    each_part([&](int64_t part) { sums_of_layer(k, part, s); });
    // The whole team stops after the same layer: the next one, since some threads may have begun it.
    if (team.rank == 0 && stop_at < 0 && a.interrupted && a.interrupted())
      __atomic_store_n(&stop_at, k ? k - 1 : 0, __ATOMIC_RELAXED);
    team.wait();
    if (k == __atomic_load_n(&stop_at, __ATOMIC_RELAXED) && k > 0) return;
  }
  if (!m.g_bias) return;
  for (int64_t i; queues[net.layers + 1].take(i, count);) finish_shared_bias(i * m.task, s);
  team.wait();
  if (m.of_W1.wanted())
    each_part([&](int64_t part) { sum(m.of_W1, m.count, m.first_sample > 0, a.grad_W1.of(0), part, s); });
}

template <class T> void BackwardPass<T>::run() {
  // If the network starts from zero, W2 of the first layer multiplies only zeros.
  if (!net.is_gradient_step() && a.grad_W2.given() && m.starts_from_zero(0) && (!net.W2.shared() || net.layers == 1))
    memset(a.grad_W2.arrays[0], 0, size_t(net.n * net.n) * sizeof(T));
  for (m.first_sample = 0; m.first_sample < a.batch && stop_at < 0; m.first_sample += m.segment) {
    m.count = a.batch - m.first_sample < m.segment ? a.batch - m.first_sample : m.segment;
    start_segment();
    in_parallel(m.threads, [&](Team team) { run_segment(team); });
    finish_segment();
  }
  // The sums for gains were made with x+, which is gain P.
  for (int64_t k = 0; k < net.layers; ++k) m.to_gain.divide(k, prox_of(net, m.theta, k).gain);
  m.to_theta.write_columns(a.grad_theta, net.layers);
  m.to_step.write_columns(a.grad_step, net.layers);
  m.to_gain.write_values(a.grad_gain, net.layers);
  m.to_blend.write_values(a.grad_beta, net.layers);
}

}  // namespace

template <class T> void network_backward(const Backward<T>& a) {
  if (a.batch == 0) {  // sums over no samples
    const PerLayer<T> sums[] = {a.grad_W1, a.grad_W2, a.grad_step, a.grad_theta, a.grad_gain, a.grad_beta};
    for (const PerLayer<T>& out : sums) clear(out);
    return;
  }
  Workspace memory;
  BackwardPass<T>(a, memory).run();
}

template void network_backward(const Backward<float>&);
template void network_backward(const Backward<double>&);

}  // namespace fastunroll::FASTUNROLL_SET
