"""How much the loss rises in the direction of its gradient."""

import numpy as np


def sharpness(weights, loss, base, rho):
    """L(w + e) - L(w), with e = rho g / ||g|| and g the gradient over the whole set (Foret et al., arXiv
    2010.01412, equation 2 for p = 2).

    base: L(w). All ranks must call. Returns a dict: sharpness, rho. Without a gradient the sharpness is 0.
    """
    gradient = loss.gradient()
    length = np.linalg.norm(gradient)
    if length == 0:
        return {"sharpness": 0.0, "rho": rho}
    with weights.moved((rho, weights.split(gradient / length))):
        return {"sharpness": float(loss.shared()[0] - base), "rho": rho}
