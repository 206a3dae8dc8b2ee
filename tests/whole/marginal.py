"""Linear models evaluated at variances of one's choice, level by level: independent of the package's own code."""

import itertools
import re

import formulaic
import numpy as np
import pandas as pd


def conditional_weights(d: pd.DataFrame, options: dict) -> list[np.ndarray]:
    """Conditional weights of rows and of each level above, lowest first, from the columns of a published call."""
    w = [d[name].to_numpy(float) for name in options["weights"]]
    if not options.get("conditional"):
        w = [here / above for here, above in zip(w, [*w[1:], np.ones(len(d))], strict=True)]
    if options.get("scaling") == "size":
        (bar,) = options["bars"]
        w[0] = w[0] / pd.Series(w[0]).groupby(bar).transform("mean").to_numpy()
    return w


class Marginal:
    """A published linear model of nested random effects; theta are its (co)variances in the order of `keys`."""

    def __init__(self, formula: str, table: pd.DataFrame, **options):
        d = table.reset_index(drop=True)
        outcome, right = formula.split(" ~ ")
        fixed = re.sub(r"\+? *\([^()]*\|[^()]*\)", "", right).strip() or "1"
        X = formulaic.model_matrix(fixed, d)
        self.names, self.X = [re.sub(r"\[T\.", "[", n) for n in X.columns], np.asarray(X, float)
        self.y, self.p = d[outcome].to_numpy(float), X.shape[1]
        self.reml, self.keys, self.terms = options.get("method") == "reml", [], []
        for bar in re.findall(r"\(([^()]*)\)", right):
            left, group = re.split(r"\|\|?", bar)
            columns = [c.strip() for c in left.split("+") if c.strip() != "1"]
            Z = np.column_stack([np.ones(len(d)), *(d[c] for c in columns)])
            code = d[group.strip().split(":")].astype(str).agg("/".join, axis=1).to_numpy()
            self.terms.append((group.strip(), ["Intercept", *columns], Z, code, "||" in bar))
        self.terms.sort(key=lambda term: -len(set(term[3])))  # lowest level first
        for group, columns, _, _, diagonal in self.terms:
            for i, a in enumerate(columns):
                self.keys += [f"cov {group} {b} {a}" for b in columns[:i] if not diagonal] + [f"var {group} {a}"]
        self.keys.append("var Residual")
        options["bars"] = [term[3] for term in self.terms]
        weights = conditional_weights(d, options) if "weights" in options else []
        w = [*weights, *[np.ones(len(d))] * (len(self.terms) + 1 - len(weights))]
        self.arrange([term[2] for term in self.terms], [term[3] for term in self.terms], w)

    def arrange(self, Z, codes, w):
        """Weighted cross-products of the rows of the lowest units; to which unit every unit belongs, and its weight."""
        C = np.column_stack([self.X, self.y, *Z])
        self.slices = [slice(0)] * len(Z)
        at = self.p + 1
        for k, z in enumerate(Z):
            self.slices[k], at = slice(at, at + z.shape[1]), at + z.shape[1]
        units = [np.unique(code, return_index=True, return_inverse=True) for code in codes]
        lowest = units[0][2]
        self.products = np.zeros((len(units[0][0]), C.shape[1], C.shape[1]))
        np.add.at(self.products, lowest, w[0][:, None, None] * C[:, :, None] * C[:, None, :])
        self.rows = np.bincount(lowest, w[0])
        self.parents = [above[2][below[1]] for below, above in itertools.pairwise(units)]
        self.w = [weight[first] for weight, (_, first, _) in zip(w[1:], units, strict=True)]

    def psi(self, theta) -> list:
        """Covariance matrix of every term."""
        out, k = [], 0
        for _, columns, _, _, diagonal in self.terms:
            P = np.zeros((len(columns), len(columns)), theta.dtype)
            for i in range(len(columns)):
                for j in [i] if diagonal else range(i + 1):
                    P[i, j] = P[j, i] = theta[k]
                    k += 1
            out.append(P)
        return out

    def products_at(self, theta):
        """Cross-products of X and y in the inverse covariance of every top unit, and the constants of its likelihood.

        Of a unit with random effects Z u below which everything has cross-products Q, integrating u out leaves
        Q - Q_z (1/Psi + Q_zz)^-1 Q_z' and adds the log-determinant of 1 + Q_zz Psi to -2 log L; the weight of a unit
        multiplies both, one level up.
        """
        psi, s2 = self.psi(theta), theta[-1]
        Q, constant = self.products / s2, self.rows * np.log(2 * np.pi * s2)
        for level, (P, z) in enumerate(zip(psi, self.slices, strict=True)):
            if level:
                parent, w = self.parents[level - 1], self.w[level - 1]
                below, constants = w[:, None, None] * Q, w * constant
                Q, constant = np.zeros((parent.max() + 1, *Q.shape[1:]), Q.dtype), np.zeros(parent.max() + 1, Q.dtype)
                np.add.at(Q, parent, below)
                np.add.at(constant, parent, constants)
            M = np.eye(len(P)) + Q[:, z, z] @ P
            sign, size = np.linalg.slogdet(M)
            constant = constant + size + np.log(sign)
            Q = Q - Q[:, :, z] @ P @ np.linalg.solve(M, Q[:, z, :])
        return Q[:, : self.p + 1, : self.p + 1], constant

    def solve(self, theta):
        """Coefficients, their inverse covariance, scores by top unit and the (restricted, pseudo-) log-likelihood."""
        Q, constant = self.products_at(np.asarray(theta))
        w, p = self.w[-1], self.p
        total = np.tensordot(w, Q, 1)
        A, b = total[:p, :p], total[:p, p]
        beta = np.linalg.solve(A, b)
        value = -0.5 * (w @ constant + total[p, p] - b @ beta)
        if self.reml:
            sign, size = np.linalg.slogdet(A)
            value = value + 0.5 * (p * np.log(2 * np.pi) - size - np.log(sign))
        return beta, A, w[:, None] * (Q[:, :p, p] - Q[:, :p, :p] @ beta), value

    def slopes(self, theta):
        """Gradient of the log-likelihood and of the coefficients in theta, by complex steps."""
        gradient, J = [], []
        for k in range(len(theta)):
            step = np.array(theta, complex)
            step[k] += 1e-30j
            beta, _, _, value = self.solve(step)
            gradient.append(value.imag / 1e-30)
            J.append(beta.imag / 1e-30)
        return np.array(gradient), np.array(J).T

    def hessian(self, theta):
        steps = 1e-5 * np.maximum(np.abs(theta), 1e-6)
        rows = [
            (self.slopes(theta + e)[0] - self.slopes(theta - e)[0]) / (2 * h)
            for h, e in zip(steps, np.diag(steps), strict=True)
        ]
        return 0.5 * (np.array(rows) + np.array(rows).T)

    def filled(self, theta, known):
        """Theta with the entries that are not known at their maximum given the others (Newton)."""
        theta, free = np.array(theta, float), ~np.asarray(known)
        for _ in range(10 if free.any() else 0):
            step = np.linalg.solve(self.hessian(theta)[np.ix_(free, free)], self.slopes(theta)[0][free])
            theta[free] -= step
            if np.all(np.abs(step) <= 1e-9 * np.abs(theta[free])):
                break
        return theta

    def information(self, theta, scale: str):
        """Covariance of the (co)variances from the whole observed information, taken in the parameters of `scale`.

        "variance": theta itself; "log sd": logarithms of the standard deviations; "ratio": the (co)variances over that
        of the residuals, which stands for itself. At the maximum all are the same.
        """
        (gradient, _), H = self.slopes(theta), self.hessian(theta)
        J, T = np.eye(len(theta)), np.zeros_like(H)
        if scale == "log sd":
            assert not any(key.startswith("cov") for key in self.keys)
            J, T = np.diag(2 * theta), np.diag(4 * theta * gradient)
        if scale == "ratio":
            J = theta[-1] * J
            J[:, -1] = theta / theta[-1]
            T[-1, :-1] = T[:-1, -1] = gradient[:-1]
        return J @ np.linalg.inv(-(J.T @ H @ J + T)) @ J.T

    def by_level(self, theta, factor: float) -> dict[str, float]:
        """Standard errors by a sandwich per level, random intercepts only: in its standard deviation over that of the
        residuals and the latter, as if the other levels' ratios and the coefficients were known."""
        beta = self.solve(theta)[0]

        def values(eta):
            Q, constant = self.products_at(np.append(eta[:-1] ** 2 * eta[-1] ** 2, eta[-1] ** 2))
            r = np.append(-beta, 1.0)
            return -0.5 * self.w[-1] * (constant + Q @ r @ r)

        def scores(eta):
            return np.array([values(eta + 1e-30j * e).imag / 1e-30 for e in np.eye(len(eta))]).T

        eta = np.sqrt(np.append(theta[:-1] / theta[-1], theta[-1]))
        H = np.array([(scores(eta + e) - scores(eta - e)).sum(0) / 2e-5 for e in 1e-5 * np.eye(len(eta))])
        B, out = factor * scores(eta).T @ scores(eta), {}
        for k, key in reversed(list(enumerate(self.keys[:-1]))):
            pair = np.ix_([k, -1], [k, -1])
            V = np.linalg.inv(H[pair]) @ B[pair] @ np.linalg.inv(H[pair])
            g = np.array([2 * eta[-1] ** 2 * eta[k], 2 * theta[k] / eta[-1]])
            out[f"se {key}"], out["se var Residual"] = np.sqrt(g @ V @ g), 2 * eta[-1] * np.sqrt(V[1, 1])
        return out

    def numbers(self, theta, robust: float | None = None, scale: str | None = None) -> dict[str, float]:
        """What a program prints at theta. `robust`: factor on the sandwich; `scale`: that of the whole information."""
        beta, A, scores, value = self.solve(theta)
        V = np.linalg.inv(A)
        if robust:
            V = robust * V @ scores.T @ scores @ V
        out = {"loglik": value, "-2 loglik": -2 * value}
        if scale:
            C, (_, J) = self.information(theta, scale), self.slopes(theta)
            V = V + J @ C @ J.T
            out |= dict(zip([f"se {key}" for key in self.keys], np.sqrt(np.diag(C)), strict=True))
        for name, b, variance in zip(self.names, beta, np.diag(V), strict=True):
            out[f"coef {name}"], out[f"se {name}"] = b, np.sqrt(variance)
        return out
