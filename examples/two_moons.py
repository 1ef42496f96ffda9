"""Two moons by hand: no layers, no optimizer, no trainer. Draws its decision boundary."""

import numpy as np
from matplotlib.figure import Figure

import nano

rng = np.random.default_rng(0)
angle, moon = rng.uniform(0, np.pi, 200), np.arange(200) % 2
x, y = np.cos(angle) + rng.normal(0, 0.1, 200), np.sin(angle) + rng.normal(0, 0.1, 200)
x, y = np.where(moon, 1 - x, x), np.where(moon, 0.5 - y, y)
points, side = nano.tensor(np.stack([x, y], 1)), nano.tensor(2.0 * moon - 1)
sizes = [(2, 16), (16, 16), (16, 1)]
weights = [nano.tensor(rng.normal(0, i**-0.5, (i, o)), requires_grad=True) for i, o in sizes]
biases = [nano.tensor(np.zeros(o), requires_grad=True) for _, o in sizes]


def score(z):
    for w, b in zip(weights[:-1], biases[:-1], strict=True):
        z = (z @ w + b).relu()
    return (z @ weights[-1] + biases[-1]).squeeze(1)


for step in range(501):
    loss = (1 - side * score(points)).relu().mean() + 1e-4 * sum((w * w).sum() for w in weights)
    loss.backward()
    with nano.no_grad():
        for parameter in weights + biases:
            parameter -= 0.5 * parameter.grad
            parameter.grad = None
    if step % 100 == 0:
        right = ((score(points) > 0) == (side > 0)).double().mean().item()
        print(f"step {step:3d}  loss {loss.item():.4f}  accuracy {right:.1%}")

u, v = np.meshgrid(np.linspace(-1.5, 2.5, 200), np.linspace(-1, 1.5, 200))
heights = score(nano.tensor(np.stack([u.ravel(), v.ravel()], 1))).view(200, 200).detach().numpy()
axes = Figure().subplots()
axes.contourf(u, v, heights, levels=[-1e9, 0, 1e9], colors=["C0", "C1"], alpha=0.3)
axes.scatter(x, y, c=[f"C{m}" for m in moon])
axes.figure.savefig("two_moons.png")
