"""`train-host distill`: a substitute from collected answers."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import click

from pi_agent.contract.files import make_folder
from pi_agent.contract.manifest import load_manifest
from pi_agent.contract.output import emit
from training_host.commands.options import arch_option, beginning, json_option, resize_option, seed_option
from training_host.data.arrays import ScoredSet, load_transfer_sets
from training_host.data.pool import list_pool
from training_host.data.unasked import extras_of
from training_host.jobs import CHECKPOINT, check_output, distill_job, spec_of
from training_host.output import epochs_bar
from training_host.own_networks import open_own
from training_host.training.completed import completed
from training_host.training.device import best_device
from training_host.training.distill import LEAST_EPOCHS, LEAST_STEPS, MANY, echo_for, epochs_for, moves_for, steady_for
from training_host.training.loop import Recipe
from training_host.training.teaching import LOSSES, Teaching, loss_for
from training_host.training.trial import LEAST as LEAST_TRIAL
from training_host.training.trial import Trial, trial_epochs, try_own


@click.command(epilog="Example: train-host distill monday.tar tuesday.tar --arch recycleme --out substitute")
@click.argument("transfer", nargs=-1, type=click.Path(path_type=Path))
@arch_option
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Model folder to write.")
@click.option("--budget", type=click.IntRange(min=1), help="Use only the first so many images.")
@click.option(
    "--pool",
    type=click.Path(path_type=Path, exists=True),
    help="Folder or zip of pictures of the task, asked or not; class folders give true labels.",
)
@click.option(
    "--start",
    type=click.Path(path_type=Path, exists=True),
    help="Model folder to go on from, such as last night's copy.",
)
@click.option(
    "--own",
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    help="Model folder of a network of your own, made from true labels (`train`); may be repeated. The substitute "
    "learns what they say, corrected by the answers, to what was not asked of --pool and to changed pictures; unless a "
    f"trial says that it is better without them (from {LEAST_TRIAL} answers on; not with --echo).",
)
@click.option(
    "--loss",
    type=click.Choice(LOSSES),
    help="Divergence from the answers; half of it squared distance; or squared distance of their centred logarithms. "
    "[default: the last where answers tell small scores, else the first]",
)
@click.option(
    "--students",
    type=click.IntRange(min=0),
    default=Teaching.students,
    show_default=True,
    help="Train so many first; the substitute learns from the mean of them as well.",
)
@click.option(
    "--echo",
    type=click.FloatRange(min=0),
    default=None,
    help="Weight of what students and own networks say to changed and mixed pictures; without any, of its own running "
    f"average. [default: 1 with --students, and with --own below {MANY} answers; else 0]",
)
@click.option(
    "--truth",
    type=click.FloatRange(min=0),
    default=Teaching.truth,
    show_default=True,
    help="Weight of the true labels of the pool's pictures; needs --pool with class folders.",
)
@click.option(
    "--steady",
    type=click.FloatRange(0, 1, max_open=True),
    help="In this share of the epochs, the last, batch norm is fixed, dropout is off and weights are averaged; with "
    f"--start in all. [default: 0; with --own 0.3; from {MANY} answers on 0.6]",
)
@click.option(
    "--exact/--moved",
    default=None,
    help="Show exactly what was asked, or small moves of it. "
    f"[default: moved; from {MANY} answers on exact, but for pictures of the pool]",
)
@click.option(
    "--hard", is_flag=True, help="Use the best class of every answer only, as an oracle of labels would tell."
)
@click.option(
    "--weighted/--alike",
    default=True,
    help="Answers of a noisy oracle count more where a picture was asked more often, or all alike. "
    "[default: weighted; where answers carry no noise they count alike anyway]",
)
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    help=f"For each training. [default: {LEAST_EPOCHS}, more where {LEAST_STEPS} steps take more]",
)
@resize_option("that of --start and --own, else area")
@seed_option
@json_option
def command(
    transfer: tuple[Path, ...],
    arch: str,
    out: Path,
    budget: int | None,
    pool: Path | None,
    start: Path | None,
    own: tuple[Path, ...],
    loss: str | None,
    students: int,
    echo: float | None,
    truth: float,
    steady: float | None,
    exact: bool | None,
    hard: bool,
    weighted: bool,
    epochs: int | None,
    resize: str | None,
    seed: int,
    as_json: bool,
) -> None:
    """Train a network to repeat the oracle's score vectors. Interrupted, it goes on where it was.

    Networks of --own answer for the pictures of --pool that were not asked. Without TRANSFER that is all: several are
    folded into one, without a query.
    """
    if not transfer and (len(own) < 2 or pool is None or budget):
        raise click.UsageError("give transfer sets to learn from, or several --own and --pool to fold them into one")
    if truth and pool is None:
        raise click.UsageError("--truth needs --pool with class folders: nobody else knows the true labels")
    if students and echo == 0:
        raise click.UsageError("--students without --echo would train networks that nobody listens to")
    check_output(out)
    spec = spec_of(resize, [*own, *([start] if start else [])])
    answers = load_transfer_sets(transfer, spec, budget) if transfer else None
    classes = answers.classes if answers else load_manifest(own[0]).classes
    pictures = list_pool(pool, spare_held_out=True) if pool else []
    with click.progressbar(length=len(pictures), label="reading the pool", file=sys.stderr) as bar:
        extras = extras_of(classes, pictures, spec, needs_labels=bool(truth), progress=bar.update)
    if answers is None:
        answers = ScoredSet.empty(spec.size, classes)
    answers = answers.labels_only() if hard else answers
    answers = answers if weighted else replace(answers, weights=None)
    device, count = best_device(), len(answers.images)
    networks = open_own(own, arch, classes)
    if own and echo is None and count >= LEAST_TRIAL:
        short = Recipe(epochs or trial_epochs(count), seed=beginning("distill", seed))
        place = make_folder(out) / CHECKPOINT
        with epochs_bar(short.epochs, "trying own networks") as show:
            networks = networks.after(
                try_own(arch, answers, networks.networks, short, device, extras=extras, checkpoint=place, progress=show)
            )
    networks = networks.corrected(answers, device)
    data = completed(answers, extras.pool, networks.networks, device)
    heard = bool(networks.networks)
    if echo is None:
        echo = 1.0 if students else echo_for(count) if heard else 0.0
    moves = moves_for(count) if exact is None else "none" if exact else "all"
    steady = steady_for(count, echoing=bool(heard and echo)) if steady is None else steady
    loss = loss or loss_for(answers.scores if count else data.scores)
    teaching = Teaching(loss, moves, steady, truth, students, echo)
    epochs = epochs or epochs_for(len(data.images))
    rounds = epochs * (students + 1)
    with epochs_bar(rounds, "distilling") as show:
        recipe = Recipe(epochs, seed=beginning("distill", seed))
        manifest = distill_job(
            data,
            arch,
            out,
            recipe,
            show,
            spec,
            teaching=teaching,
            extras=extras,
            start=start,
            own=networks,
            asked=count,
        )
    result = {
        "path": str(out),
        "queries": manifest.provenance["queries"],
        "pool": manifest.provenance["pool"],
        "labels": manifest.provenance["labels"],
        "onnx_sha256": manifest.onnx_sha256,
        "own_trial": manifest.provenance["own_trial"],
        **manifest.metrics,
    }
    agreement = 100 * manifest.metrics["agreement_on_transfer_set"]
    source = (
        f"substitute from {count} answers"
        if count
        else f"{len(own)} networks folded into one on {len(data.images)} pictures"
    )
    text = [f"{out}: {source}, agrees on {agreement:.1f} % of them"]
    if networks.trial:
        text.append(trial_line(networks.trial))
    emit("distill", result, text, as_json=as_json)


def trial_line(trial: Trial) -> str:
    """What a trial of own networks found, for people."""
    found = f"own networks: L2 {trial.own:.3f} to {trial.aside} answers set aside, a student alone {trial.alone:.3f}"
    return f"{found}; " + ("so they are heard" if trial.heard else "so they are left out (--echo 1 hears them anyway)")
