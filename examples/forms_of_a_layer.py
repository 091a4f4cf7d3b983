"""One problem, many unrolled algorithms: each is a linear step, a proximal operator and a scheme.

Run it as it stands: ``python examples/forms_of_a_layer.py``; it takes a few seconds. Every number here could be a
parameter of a network: ``fu.unrolled`` is differentiable in all of them.
"""

import fastunroll as fu
import torch

torch.manual_seed(0)
m, n, layers, lam = 250, 500, 16, 0.05
A = torch.randn(m, n)
A /= A.norm(dim=0)
x = torch.randn(500, n) * (torch.rand(500, n) < 0.1)
y = x @ A.T

step = float(1 / torch.linalg.matrix_norm(A, 2) ** 2)
gram = A @ A.T
W = torch.linalg.solve(gram, A)
W /= (W * A).sum(dim=0)  # ALISTA's matrix: each column has product 1 with that of A, and little with the others
rho, eye = 0.2, torch.eye(m)
B = torch.linalg.solve(gram + rho * eye, A)  # ADMM's linear system, solved by the matrix inversion lemma

L1, FISTA, ADMM, AMP = fu.prox.L1(), fu.schemes.FISTA(), fu.schemes.ADMM(), fu.schemes.AMP()
sizes = [round(0.012 * n * (k + 1)) for k in range(layers)]
algorithms = {  # a linear step, a proximal operator, its threshold, a scheme
    "ISTA": (fu.GradientStep(A, step=step), L1, lam * step, None),
    "FISTA": (fu.GradientStep(A, step=step), L1, lam * step, FISTA),
    "ADMM": (fu.GradientStep(A, B), L1, lam / rho, ADMM),
    "AMP": (fu.GradientStep(A), L1, 1.14, AMP),
    "ALISTA, by hand": (
        fu.GradientStep(A, W),
        fu.prox.SupportSelection(sizes),
        [0.5 * 0.7**k for k in range(layers)],
        None,
    ),
}
for name, (linear, prox, theta, scheme) in algorithms.items():
    out = fu.unrolled(y, linear, prox, theta, layers=layers, scheme=scheme)
    print(f"{name:<16} {fu.losses.nmse_db(out, x, pooled=True):7.2f} dB after {layers} layers")

# Gradients with less memory: keep every 4th layer, and compute the others again in the backward pass.
theta = torch.tensor(lam * step, requires_grad=True)
out = fu.unrolled(y, fu.GradientStep(A, step=step), L1, theta, layers=layers, keep_every=4)
out.sub(x).square().sum().backward()
print(f"gradient of ISTA's error by its threshold: {theta.grad:.1f}")
