"""Wrappers: functions from rule to rule, which fuse with what they wrap.

Example:
    >>> from ravine.rules.adam import adamw
    >>> lookahead(cautious(adamw), k=10)
    <rule lookahead(cautious(adamw))>
"""

from __future__ import annotations

from typing import Any

from ravine.math import (
    ZERO,
    Apart,
    Origin,
    Zero,
    has,
    maximum,
    mean,
    minimum,
    ndim,
    norm,
    plain,
    rms,
    row_mean,
    sqrt,
    total,
    where,
)
from ravine.rule import State, register
from ravine.wrapper import Wrapper, rehearse, wrapper


def update_of(base: Any, p: Any, g: Any, *states: Any, **hyper: Any) -> tuple[Any, list[Any]]:
    """The exact x of the base rule's last `p - x`, and its new states.

    Raises:
        TypeError: if the base rule does not end in `p - x`.
    """
    q, *new = _from_origin(base, p, g, *states, **hyper)
    u = q.moved + q.decayed
    return (u if has(u) else 0.0 * p), [plain(state) for state in new]


def update_and_decay_of(
    base: Any, p: Any, g: Any, *states: Any, weight_decay: Any = ZERO, **hyper: Any
) -> tuple[Any, Any, list[Any]]:
    """The exact x of the base rule's last `p - x` without weight decay, the decay in it, and the rule's new states.

    Raises:
        TypeError: if the base rule does not end in `p - x`.
    """
    known = isinstance(weight_decay, (Apart, Zero))
    told_apart = weight_decay if known else Apart(ZERO, weight_decay)
    q, *new = _from_origin(base, p, g, *states, weight_decay=told_apart, **hyper)
    decay = Apart(ZERO, q.decayed) if isinstance(weight_decay, Apart) else q.decayed
    return (q.moved if has(q.moved) else 0.0 * p), decay, [plain(state) for state in new]


def _from_origin(base: Any, p: Any, g: Any, *states: Any, **hyper: Any) -> tuple[Any, ...]:
    q, *new = base(Origin(p), g, *states, **hyper)
    if not isinstance(q, Origin):
        raise TypeError("this wrapper needs the rule's update, so the rule must return `p - update` as its parameter")
    return (q, *new)


@wrapper(
    paper="Liang et al. 2024, arXiv:2411.16085",
    side="update",
)
def cautious(base, p, g, *states, rescale=True, **hyper):
    """Cautious: only those parts of the update that agree in sign with the gradient; decay stays outside the mask.

    Use it around a rule with momentum, at its settings: it takes no state, and where all were tuned it was a little
    ahead of the rule alone (Wen et al. 2025, arXiv:2509.02046). Rescaling needs a second pass over memory; with
    rescale=False there is none, and updates are smaller by what is masked. Around a rule without momentum the mask
    lets everything pass.
    """
    u, decay, states = update_and_decay_of(base, p, g, *states, **hyper)
    agree = (u > 0) & (g > 0) | (u < 0) & (g < 0)
    u = where(agree, u, 0.0)
    if rescale:
        u = u / maximum(mean(agree), 1e-3)
    return p - (u + decay), *states


@wrapper(
    paper="Shazeer & Stern 2018, arXiv:1804.04235, section 6; Wortsman et al. 2023, arXiv:2304.13013",
    side="update",
    needs=("lr",),
    fit=lambda base, pinned: (
        "prodigy finds the size of its steps itself, so lr does not bound them"
        if base.innermost.name == "prodigy"
        else None
    ),
    ranges={"d": "(0, inf)"},
)
def clipped_update(base, p, g, *states, lr, d=1.0, **hyper):
    """ClippedUpdate: updates scaled down so that their root mean square is at most d·lr; decay stays outside.

    Use it around Adam and its kin where the loss has spikes: an update that is larger than usual is cut, so that
    gradients need no clipping. Their updates are usually well below lr, so d = 1 acts in spikes alone; around a
    rule whose steps have the gradient's scale, such as SGD, it would act always or never. It costs a second pass.
    """
    u, decay, states = update_and_decay_of(base, p, g, *states, lr=lr, **hyper)
    u = u * minimum(1.0, d * lr / maximum(rms(u), 1e-30))
    return p - (u + decay), *states


def _is_rectifiable(base, pinned):
    own = base.innermost
    if "exp_avg_sq" not in (s.name for s in own.state.values()):
        return f"rectified corrects an average of squared gradients, and {own.name} keeps none"
    reasons = {"adan": "beta3, not beta2, averages adan's squared gradients", "radam": "radam is rectified already"}
    return reasons.get(own.name)


@wrapper(
    paper="Liu et al. 2020, arXiv:1908.03265; silent at first as in Defazio et al. 2024, arXiv:2405.15682",
    side="gradient",
    needs=("lr", "beta2"),
    fit=_is_rectifiable,
)
def rectified(base, p, g, *states, t, lr, beta2, **hyper):
    """Rectified: lr times RAdam's factor, which is 0 as long as the second moment has seen too little (ρ ≤ 4).

    Use it around Adam and its kin where no warm-up shall be tuned, and around `schedule_free(adamw)`, which then
    needs none. It costs nothing. A linear warm-up over 2/(1 − beta2) steps does as much (Ma & Yarats 2021,
    arXiv:1910.04209).

    For beta2 = 0.999 nothing moves in the first 4 steps, where RAdam takes plain steps; weight decay is rectified too.
    Schedule-Free RAdam is `rectified(schedule_free(adamw))`, whose average begins with the first rectified step.
    """
    rho_inf = 2 / (1 - beta2) - 1
    rho = rho_inf - 2 * t * beta2**t / (1 - beta2**t)
    r = sqrt((rho - 4) * (rho - 2) * rho_inf / maximum((rho_inf - 4) * (rho_inf - 2) * rho, 1e-300))
    lr = lr * where(rho > 4, r, 0.0)
    return base(p, g, *states, t=t, lr=lr, beta2=beta2, **hyper)


@wrapper(
    paper="Zhang et al. 2019, arXiv:1907.08610",
    side="weights",
    state={"slow": State("slow", init="p")},
    ranges={"k": "whole [1, inf)", "alpha": "[0, 1]"},
    at_eval="slow",
)
def lookahead(base, p, g, slow, *states, t, k=5, alpha=0.5, **hyper):
    """Lookahead: every k steps, slow weights move a part of the way to the fast ones, which start again from there.

    Use it around SGD or Adam where steps are noisy: slow weights average the noise out, and settings of the rule
    inside may be bolder. It keeps one more number per weight and costs little time, in one step of k. Where lr
    falls to zero in the end there is less noise to average and less to gain. Evaluate at the slow weights, see
    `ravine.evaluating`.
    """
    p, *states = base(p, g, *states, t=t, **hyper)
    if t % k == 0:
        p = slow = slow + alpha * (p - slow)
    return p, slow, *states


@wrapper(
    paper="Polyak & Juditsky 1992; Tarvainen & Valpola 2017, arXiv:1703.01780",
    side="weights",
    state={"ema": State("ema", init="p")},
    ranges={"beta": "[0, 1)"},
    at_eval="ema",
)
def ema(base, p, g, ema, *states, beta=0.999, **hyper):
    """EMA: an exponential moving average of the weights, which is evaluated while the weights themselves are trained.

    Use it where the average is what is wanted, as for generative models and teachers of other models, or to see
    before its end where a run is heading: averaging acts like a lower lr. It keeps one more number per weight. 1/(1
    − beta) steps are remembered; let them be a tenth of the run or less. Evaluate at the average, see
    `ravine.evaluating`.

    It begins at the initial weights. Like every state it has the parameter's type, and in bfloat16 the steps of a long
    average are lost in rounding: with beta 0.999 it stands still. Keep the weights, or this state, in float32.
    """
    p, *states = base(p, g, *states, **hyper)
    ema = beta * ema + (1 - beta) * p
    return p, ema, *states


# What is left of these rules without their momentum is another.
WITHOUT_MOMENTUM = {"momentum": "sgd", "nesterov": "sgd", "nadam": "adam", "nadamw": "adamw", "mars": "adamw"}


def _lives_without_momentum(base, pinned):
    own = base.innermost.name
    if own in WITHOUT_MOMENTUM:
        return f"schedule_free takes momentum's place, and {own} is one; write schedule_free({WITHOUT_MOMENTUM[own]})"
    # Turning earlier gradients around changes neither the update nor a state that vanishes, if only squares are kept.
    (update, states), (other, turned) = rehearse(base, pinned), rehearse(base, pinned, early=-1.0)
    pairs = [(update, other), *((states[s], turned[s]) for s in {schedule_free.pins[k] for k in pinned} if s)]
    if any(norm(a - b) > 1e-9 * norm(a) for a, b in pairs if has(a)):
        return f"schedule_free takes momentum's place, and {own} has a momentum that cannot be taken out"
    return None


@wrapper(
    paper="Defazio et al. 2024, arXiv:2405.15682, Algorithm 1",
    side="both",
    state={
        "z": State("z", init="p"),
        "lr_max": State("lr_max", kind="host"),
        "weight_sum": State("weight_sum", kind="host"),
    },
    pins={"beta1": "m", "momentum": "m", "dampening": None, "nesterov": None},
    ranges={"beta": "(0, 1]", "r": "[0, inf)", "weight_lr_power": "[0, inf)"},
    at_eval=lambda y, states, hyper: y + (1 - 1 / hyper["schedule_free.beta"]) * (states["schedule_free.z"] - y),
    needs=("lr",),
    fit=_lives_without_momentum,
)
def schedule_free(base, p, g, z, lr_max, weight_sum, *states, t, lr, beta=0.9, r=0.0, weight_lr_power=2.0, **hyper):
    """ScheduleFree: the rule's steps on z, gradients between z and its average x; no schedule, and no momentum.

    Use it where the length of the run is not known beforehand: at every step the average is about as good as a run
    whose lr was brought down by then. It won the self-tuning track of the AlgoPerf benchmark, with AdamW. It keeps
    as much as the rule with momentum. Evaluate and save at the average, see `ravine.evaluating`; means of batch
    normalisation have to be taken there anew. lr is still to be tuned, and a warm-up still helps.

    Parameters hold y = (1 − beta)·z + beta·x, where gradients are taken; evaluate at x, see `Optimizer.eval`. A step
    enters the average with the weight t^r · (highest lr so far)^weight_lr_power, so that a warm-up, by any scheduler,
    counts little. beta takes the place of the rule's own momentum (`beta1`, `momentum`), which is out. The authors'
    code has lr 0.0025 for AdamW and 1.0 for SGD, and no weight decay by default.
    """
    u, states = update_of(base, p, g, *states, t=t, lr=lr, **hyper)
    lr_max = maximum(lr_max, lr)
    weight = t**r * lr_max**weight_lr_power
    weight_sum = weight_sum + weight
    c = weight / maximum(weight_sum, 1e-300)
    p = p + c * (z - p) - (1 - beta * (1 - c)) * u
    z = z - u
    return p, z, lr_max, weight_sum, *states


@wrapper(
    paper="Pascanu, Mikolov & Bengio 2013, arXiv:1211.5063",
    side="gradient",
    ranges={"max_norm": "(0, inf)"},
)
def clip_norm(base, p, g, *states, max_norm=1.0, **hyper):
    """ClipNorm: gradients scaled down so that their norm over the whole optimizer is at most max_norm.

    Use it for recurrent networks and for transformers, customarily at max_norm 1: a rare huge gradient cannot throw
    the weights far. It costs another pass over the gradients. If it acts in nearly every step it is a
    normalisation, and lr means something else then; watch the norm and set max_norm so that it acts on outliers.
    """
    g = g * minimum(1.0, max_norm / (sqrt(total(g**2)) + 1e-6))
    return base(p, g, *states, **hyper)


@wrapper(paper="Yong et al. 2020, arXiv:2004.01461", side="gradient", view="outputs")
def centralized(base, p, g, *states, **hyper):
    """Centralized: the gradient of every output's weights with its mean taken away; vectors are left as they are.

    Use it around SGD or Adam for convolutional networks, where its authors report steadier training and a little
    better generalisation; for transformers there is little evidence. It takes no state, but one more reading of the
    gradient, since the mean must be known first.

    Parameters of more than two dimensions are seen as (outputs, rest), by the rule inside too.
    """
    if ndim(g) > 1:
        g = g - row_mean(g)
    return base(p, g, *states, **hyper)


@wrapper(paper="ascent instead of descent", side="gradient")
def maximize(base, p, g, *states, **hyper):
    """Maximize: the rule on the negated gradient.

    Use it where something is to be made large: a reward, a likelihood, the loss of an opponent. `maximize=True`,
    which every optimizer takes, is the same. Weight decay still makes weights smaller.
    """
    return base(p, -g, *states, **hyper)


for _value in list(vars().values()):
    if isinstance(_value, Wrapper):
        register(_value)
