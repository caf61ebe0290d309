"""MaskablePPO on three_tier against the shipped policies on runs that nobody learned from: ``python -m docs.ppo``.

Takes some minutes; needs ``pip install 'mendsim[sb3,pictures]'``. Not part of the tests.
"""

__all__ = ["main"]

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.evaluation.study import Study, evaluate
from simcore.model.loader import load_scenario

#: Held-out runs: of this seed, split test.
SEED, POLICIES = 7, ("noop", "threshold_rules", "playbook", "bandit")
#: The first guess is to wait: so much is added to the logit of noop before training.
_PATIENCE = 4.0


def baselines(episodes: int) -> dict[str, npt.NDArray[np.float64]]:
    """Return policy -> (run,) J on the held-out runs; the bandit learned from 300 runs of split train before."""
    scenario = load_scenario("three_tier")
    agent: dict[str, Any] = {"detector": "isolation_forest", "diagnoser": "causal_rank"}
    taught = evaluate(Study(scenario, seed=1, split="train", episodes=300, policies=("bandit",), **agent))
    study = Study(scenario, seed=SEED, episodes=episodes, frozen=True, policies=POLICIES, **agent)
    found = evaluate(study, learned=taught.learned).episodes
    return {name: found.filter(found["policy"] == name)["j"].to_numpy() for name in POLICIES}


def played(model: Any, episodes: int) -> npt.NDArray[np.float64]:
    """Return (run,) J of a model that takes its likeliest action, on the held-out runs."""
    from agent.environments.sb3 import RemediationVecEnv

    envs = RemediationVecEnv(episodes, "three_tier", layout="scaled", split="test")
    envs.seed(SEED)
    seen, j = envs.reset(), np.zeros(episodes)
    over = np.zeros(episodes, np.bool_)
    while not over.all():
        actions, _ = model.predict(seen, deterministic=True, action_masks=envs.envs.action_masks())
        seen, rewards, over, _ = envs.step(actions)
        j += rewards
    return j


def train(steps: int, episodes: int) -> list[dict[str, float]]:
    """Return the learning curve: a row for every 30,720 steps, mean J on the held-out runs."""
    import torch
    from sb3_contrib import MaskablePPO
    from stable_baselines3.common.vec_env import VecNormalize

    from agent.environments.sb3 import RemediationVecEnv

    torch.set_num_threads(1)
    envs = RemediationVecEnv(32, "three_tier", layout="scaled", split="train")
    model = MaskablePPO(
        "MlpPolicy", VecNormalize(envs, norm_obs=False, gamma=0.97), n_steps=120, batch_size=480, n_epochs=10,
        gamma=0.97, learning_rate=1e-3, ent_coef=0.0005, seed=1, policy_kwargs={"net_arch": [128, 128]}, device="cpu",
    )  # fmt: skip
    with torch.no_grad():
        model.policy.action_net.bias[0] += _PATIENCE
    curve, started = [], time.process_time()
    while True:
        j = played(model, episodes)
        row = {
            "steps": model.num_timesteps, "cpu_s": time.process_time() - started, "j": float(j.mean()),
            "half": float(1.96 * j.std(ddof=1) / np.sqrt(j.size)),
        }  # fmt: skip
        curve.append(row)
        print(json.dumps(row), flush=True)
        if model.num_timesteps >= steps:
            return curve
        model.learn(8 * 32 * 120, reset_num_timesteps=False)


def draw(curve: list[dict[str, float]], levels: dict[str, float], to: Path) -> None:
    """Write the picture: the learning curve with its 95 % interval, and the policies as lines."""
    from agent.evaluation.drawing import draw as drawn
    from agent.evaluation.figures import Axis, Curve, Curves
    from agent.evaluation.pictures import save

    x, y = tuple(row["steps"] for row in curve), tuple(row["j"] for row in curve)
    low, high = (tuple(row["j"] + sign * row["half"] for row in curve) for sign in (-1.0, 1.0))
    lines = [Curve("ppo", x, y, look=-1, low=low, high=high)]
    lines += [Curve(name, (0.0, x[-1]), (j, j), look=i) for i, (name, j) in enumerate(levels.items())]
    figure = Curves(
        key="ppo",
        title="MaskablePPO on three_tier",
        about="Mean J on held-out runs against the steps it learned from, with a 95 % interval; policies as lines.",
        x=Axis("steps learned from", 0.0, x[-1]),
        y=Axis("mean J, held-out runs", min(*low, *levels.values()), 0.0),
        curves=tuple(lines),
    )
    save(drawn(figure), str(to))


def main() -> None:
    """Train, play and write ``ppo.json`` and ``ppo.png``."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=200_000, help="to learn from")
    parser.add_argument("--episodes", type=int, default=100, help="held-out runs")
    parser.add_argument("--out", type=Path, default=Path("build/ppo"))
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    levels = baselines(asked.episodes)
    told = {n: {"j": float(j.mean()), "half": float(1.96 * j.std(ddof=1) / np.sqrt(j.size))} for n, j in levels.items()}
    print(json.dumps(told), flush=True)
    curve = train(asked.steps, asked.episodes)
    (asked.out / "ppo.json").write_text(json.dumps({"curve": curve, "policies": told}, indent=1), encoding="utf-8")
    draw(curve, {name: row["j"] for name, row in told.items()}, asked.out / "ppo.png")


if __name__ == "__main__":
    main()
