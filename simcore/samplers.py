"""Samplers: pure functions from a key to a value, in plain IEEE operations, shared by both engines.

``log`` and ``exp`` are our own, so that the bytes do not depend on a platform's C library. All samplers
are compiled; Python code calls the compiled versions too.
"""

__all__ = [
    "backoff",
    "draw",
    "exp",
    "exponential",
    "integrate",
    "log",
    "normal",
    "popular",
    "popularity",
    "rate_factor",
    "sin_turn",
]

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from simcore.codes import Dist
from simcore.jit import bits_of, float_of, njit
from simcore.streams import draw_index, mix, uniform

_CONSTANT, _EXPONENTIAL = np.int64(Dist.CONSTANT), np.int64(Dist.EXPONENTIAL)
_LOGNORMAL, _GAMMA = np.int64(Dist.LOGNORMAL), np.int64(Dist.GAMMA)

_LN2_HI = 6.93147180369123816490e-01
_LN2_LO = 1.90821492927058770002e-10
_INV_LN2 = 1.44269504088896338700e00
_SQRT_HALF = 0x3FE6A09E667F3BCD
_SHIFT = 0x3FF0000000000000 - _SQRT_HALF
_MANTISSA = 0x000FFFFFFFFFFFFF


@njit
def log(x):  # type: ignore[no-untyped-def]
    """Return the natural logarithm of a normal positive float64.

    The reduction and polynomial of FreeBSD's e_log.c (Sun Microsystems, 1993), error below 1 ulp.
    """
    i = bits_of(x) + _SHIFT
    k = np.float64((i >> 52) - 1023)
    f = float_of((i & _MANTISSA) + _SQRT_HALF) - 1.0
    half = 0.5 * f * f
    s = f / (2.0 + f)
    z = s * s
    w = z * z
    even = w * (0.3999999999940942 + w * (0.22222198432149784 + w * 0.15313837699209373))
    odd = z * (0.6666666666666735 + w * (0.2857142874366239 + w * (0.1818357216161805 + w * 0.14798198605116586)))
    return k * _LN2_HI - ((half - (s * (half + (odd + even)) + k * _LN2_LO)) - f)


@njit
def exp(x):  # type: ignore[no-untyped-def]
    """Return e**x for -700 <= x <= 700 (e_exp.c's reduction and rational approximation, error below 1 ulp)."""
    k = np.int64(np.floor(x * _INV_LN2 + 0.5))
    hi = x - np.float64(k) * _LN2_HI
    lo = np.float64(k) * _LN2_LO
    r = hi - lo
    t = r * r
    c = r - t * (
        0.16666666666666602
        + t
        * (
            -0.0027777777777015593
            + t * (6.613756321437934e-05 + t * (-1.6533902205465252e-06 + t * 4.1381367970572385e-08))
        )
    )
    y = 1.0 - ((lo - (r * c) / (2.0 - c)) - hi)
    return float_of(bits_of(y) + (k << 52))


@njit
def sin_turn(x):  # type: ignore[no-untyped-def]
    """Return sin(2 pi x) for x in turns, by an odd polynomial on a quarter turn (error below 1e-10)."""
    r = x - np.floor(x + 0.5)
    if r > 0.25:
        r = 0.5 - r
    elif r < -0.25:
        r = -0.5 - r
    a = 6.283185307179586 * r
    b = a * a
    tail = 2.7557319223985893e-06 + b * (
        -2.505210838544172e-08 + b * (1.6059043836821613e-10 - b * 7.647163731819816e-13)
    )
    return a * (1.0 + b * (-0.16666666666666666 + b * (0.008333333333333333 + b * (-0.0001984126984126984 + b * tail))))


#: Start of the tail and area of a layer of the ziggurats with 256 layers (Marsaglia and Tsang, 2000).
_TAIL, _AREA = 7.69711747013104972, 0.0039496598225815571993
_BELL_TAIL, _BELL_AREA = 3.6541528853610088, 0.004928673233974655

Tables = tuple[npt.NDArray[np.float64], npt.NDArray[np.uint64], npt.NDArray[np.float64]]


def _layers(tail: float, area: float, density: Callable[[float], float], inverse: Callable[[float], float]) -> Tables:
    """Return the tables of a ziggurat: width per unit, limit below which all is inside, density at the edge."""
    unit = 2.0**53
    width, limit, height = np.empty(256), np.empty(256, np.uint64), np.empty(256)
    x = inner = tail
    base = area / density(x)
    limit[0], limit[1] = int(x / base * unit), 0
    width[0], width[255] = base / unit, x / unit
    height[0], height[255] = 1.0, density(x)
    for i in range(254, 0, -1):
        x = inverse(area / x + density(x))
        limit[i + 1] = int(x / inner * unit)
        inner = x
        height[i] = density(x)
        width[i] = x / unit
    return width, limit, height


_WIDTH, _LIMIT, _HEIGHT = _layers(_TAIL, _AREA, lambda x: exp(-x), lambda y: -log(y))
_BELL_WIDTH, _BELL_LIMIT, _BELL_HEIGHT = _layers(
    _BELL_TAIL, _BELL_AREA, lambda x: exp(-0.5 * x * x), lambda y: math.sqrt(-2.0 * log(y))
)
_ONE, _TWO, _THREE, _EIGHT, _BYTE = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(8), np.uint64(255)
_SIGN = np.uint64(63)
#: Sub-draws that are kept for a normal within a gamma; each failed try takes two, and one in fifty fails.
_ROOM = np.uint64(256)


@njit(internal=True)
def _exponential_edge(key, index, layer, bits):  # type: ignore[no-untyped-def]
    """Go on where the first try of ``exponential`` has failed, with numbered sub-draws."""
    sub = index
    while True:
        x = np.float64(bits) * _WIDTH[layer]
        sub += _ONE
        if layer == 0:
            return _TAIL - log(1.0 - uniform(key, sub))
        if _HEIGHT[layer] + (_HEIGHT[layer - 1] - _HEIGHT[layer]) * uniform(key, sub) < exp(-x):
            return x
        sub += _ONE
        word = mix(key, sub) >> _THREE
        layer = np.int64(word & _BYTE)
        bits = word >> _EIGHT
        if bits < _LIMIT[layer]:
            return np.float64(bits) * _WIDTH[layer]


@njit(inline=True)
def exponential(key, index):  # type: ignore[no-untyped-def]
    """Return an exponential variate of mean 1 by the ziggurat of Marsaglia and Tsang (2000)."""
    word = mix(key, index) >> _THREE
    layer = np.int64(word & _BYTE)
    bits = word >> _EIGHT
    if bits < _LIMIT[layer]:
        return np.float64(bits) * _WIDTH[layer]
    return _exponential_edge(key, index, layer, bits)


@njit(internal=True)
def _normal_edge(key, index, layer, bits):  # type: ignore[no-untyped-def]
    """Go on where the first try of ``normal`` has failed, with numbered sub-draws; returns the absolute value."""
    sub = index
    while True:
        x = np.float64(bits) * _BELL_WIDTH[layer]
        if layer == 0:
            # Marsaglia's tail (1964)
            while True:
                x = -log(1.0 - uniform(key, sub + _ONE)) / _BELL_TAIL
                y = -log(1.0 - uniform(key, sub + _TWO))
                sub += _TWO
                if y + y > x * x:
                    return _BELL_TAIL + x
        sub += _ONE
        low = _BELL_HEIGHT[layer]
        if low + (_BELL_HEIGHT[layer - 1] - low) * uniform(key, sub) < exp(-0.5 * x * x):
            return x
        sub += _ONE
        word = mix(key, sub) >> _THREE
        layer = np.int64(word & _BYTE)
        bits = word >> _EIGHT
        if bits < _BELL_LIMIT[layer]:
            return np.float64(bits) * _BELL_WIDTH[layer]


@njit(inline=True)
def normal(key, index):  # type: ignore[no-untyped-def]
    """Return a standard normal variate by the ziggurat of Marsaglia and Tsang (2000); the lowest bit is the sign."""
    first = mix(key, index)
    word = first >> _THREE
    layer = np.int64(word & _BYTE)
    bits = word >> _EIGHT
    x = np.float64(bits) * _BELL_WIDTH[layer]
    if bits >= _BELL_LIMIT[layer]:
        x = _normal_edge(key, index, layer, bits)
    return float_of(bits_of(x) ^ np.int64(first << _SIGN))


@njit(internal=True)
def _gamma(shape, key, index):  # type: ignore[no-untyped-def]
    """Return a gamma variate of mean ``shape`` (Marsaglia and Tsang, 2000), with numbered sub-draws."""
    boost = 1.0
    a = shape
    sub = index
    if a < 1.0:
        boost = exp(max(-700.0, log(1.0 - uniform(key, sub)) / a))
        a += 1.0
        sub += _ONE
    d = a - 1.0 / 3.0
    c = 1.0 / np.sqrt(9.0 * d)
    while True:
        x = normal(key, sub)
        u = 1.0 - uniform(key, sub + _ROOM)
        sub += _ROOM + _ONE
        v = 1.0 + c * x
        if v <= 0.0:
            continue
        v = v * v * v
        if log(u) < 0.5 * x * x + d - d * v + d * log(v):
            return boost * d * v


@njit(internal=True)
def _draw_shaped(dist, mean, shape, key, index):  # type: ignore[no-untyped-def]
    if dist == _LOGNORMAL:
        return mean * exp(shape * normal(key, index) - 0.5 * shape * shape)
    return mean * (_gamma(shape, key, index) / shape)


@njit(inline=True)
def draw(dist, mean, shape, key, step, purpose):  # type: ignore[no-untyped-def]
    """Return a value of the given distribution and mean for a span's step.

    Parameters
    ----------
    dist
        A ``Dist`` code.
    mean
        The mean; what it is in units of is the caller's business.
    shape
        Lognormal: sigma of the logarithm. Gamma: shape. Otherwise unused.
    key, step, purpose
        The key of the draw: span key, step number, ``Purpose`` code.
    """
    if dist == _CONSTANT:
        return mean
    if dist == _EXPONENTIAL:
        return mean * exponential(key, draw_index(step, purpose))
    return _draw_shaped(dist, mean, shape, key, draw_index(step, purpose))


@njit(inline=True)
def popular(scaled, column, accept, alias):  # type: ignore[no-untyped-def]
    """Return the key that one column of a Walker alias table gives; ``scaled`` is u times the number of columns."""
    return column if scaled - np.float64(column) < accept else np.int64(alias)


@njit
def popularity(accept, alias, u):  # type: ignore[no-untyped-def]
    """Return the key (0 = most popular) that u selects in a Walker alias table.

    Parameters
    ----------
    accept
        (key,) probability of staying in the column.
    alias
        (key,) the other key of the column.
    u
        Uniform in [0, 1).
    """
    scaled = u * accept.size
    column = np.int64(scaled)
    return popular(scaled, column, accept[column], alias[column])


@njit
def backoff(base_s, limit_s, jitter, attempt, u):  # type: ignore[no-untyped-def]
    """Return the wait before attempt + 1: base doubled per attempt up to a limit, shortened by jitter * u."""
    wait = base_s
    for _ in range(attempt):
        wait = wait + wait
        if wait >= limit_s:
            break
    wait = min(wait, limit_s)
    return wait - wait * jitter * u


@njit
def rate_factor(shape, a, b, c, phase, t):  # type: ignore[no-untyped-def]
    """Return the arrival rate at time t as a multiple of the base rate.

    Parameters
    ----------
    shape
        0 constant; 1 sinusoidal: 1 + a sin(2 pi (t / b + phase)); 2 step: a from time b on; 3 burst: a in [b, c).
    a, b, c
        Parameters of the shape.
    phase
        Phase of the wave in turns.
    t
        Simulated time, seconds.
    """
    if shape == 1:
        return 1.0 + a * sin_turn(t / b + phase)
    if shape == 2:
        return a if t >= b else 1.0
    if shape == 3:
        return a if b <= t < c else 1.0
    return 1.0


@njit
def integrate(acc, level, t0, t1):  # type: ignore[no-untyped-def]
    """Return ``acc`` plus the integral of a constant ``level`` over [t0, t1]."""
    return acc + level * (t1 - t0)
