"""Where the runs that are kept departed from their plan."""

from typing import Any

from hcl_tf.evaluation.rows import Result
from hcl_tf.files.pretraining_record import bits_of
from hcl_tf.metrics.samples import sources_of
from hcl_tf.reporting.kept import KeptStage
from hcl_tf.reporting.plan import ExperimentPlan


def departures(plan: ExperimentPlan, kept: list[KeptStage], planned: dict[str, dict[str, dict[str, Any]]]) -> list[tuple[str, str]]:
    """(stage or run, what differs), in the order of the plan.

    Args:
      planned: stage -> row -> the settings that its flag files give (`reproduction.Series.settings`), of rows that ran.
    """
    found = []
    for one in kept:
        for result in one.results:
            run = f"{one.stage.name}: {result.row} seed {result.seed}"
            found += [(run, what) for what in _of_run(one, result, planned.get(one.stage.name, {}).get(result.row, {}))]
        found += [(one.stage.name, what) for what in _of_stage(one)]
    spent = sum(result.hours for one in kept for result in one.results)
    if plan.hours and spent > plan.hours:
        found.append((plan.path.name, f"{spent:.1f} hours were spent, {plan.hours:g} planned"))
    return found


def _of_run(one: KeptStage, result: Result, planned: dict[str, Any]) -> list[str]:
    stage, record, found = one.stage, result.record, []
    for name, value in planned.items():
        if result.settings.get(name) != value:
            found.append(f"--{name}={result.settings.get(name)}, planned {value}")
    if record["finished"].get("ended") == "time":
        found.append(f"training was cut off by the clock after {record['finished']['step']:,} steps")
    steps = record["finished"].get("step")  # a system without weights has none
    if steps and not planned.get("patience") and steps < planned.get("max_steps", 0):
        found.append(f"training ended after {steps:,} of {planned['max_steps']:,} steps")
    raw = sorted(record["corpus"]["raw_files"].values())
    if not any(checksum.startswith(stage.raw_file) for checksum in raw):
        found.append(f"of other raw files ({', '.join(checksum[:16] for checksum in raw)}), planned {stage.raw_file}")
    if record["examples"] < stage.at_least:
        found.append(f"{record['examples']:,} examples were scored, at least {stage.at_least:,} planned")
    sampled = record.get("samples_of_z", {"of_each": 0})
    if "latent_size" in result.diagnostics and sampled["of_each"] != stage.samples:
        found.append(f"{sampled['of_each']} outputs a source under drawn z, planned {stage.samples}")
    if "means" in sampled:
        wanted = min(stage.sampled_sources or record["examples"], record["examples"])
        if (sources := sources_of(sampled["means"])) != wanted:
            found.append(f"outputs under drawn z are of {sources:,} sources, planned {wanted:,}")
    return found


def _of_stage(one: KeptStage) -> list[str]:
    found = [
        f"{name}: {len(one.trials[name])} trials are kept, {one.stage.row(name).trials} planned"
        for name, results in one.rows.items()
        if results and len(one.trials[name]) != one.stage.row(name).trials and not one.stage.runs_of
    ]
    machines = {_machine(result) for result in one.results}
    if len(machines) > 1:
        found.append(f"runs of {len(machines)} machines or backends stand beside each other: {'; '.join(sorted(machines))}")
    sums = {_arithmetic(result) for result in one.results}
    if len(sums) > 1:
        found.append(f"runs of {len(sums)} arithmetics or versions of TensorFlow stand beside each other: {'; '.join(sorted(sums))}")
    return found + _lacking(one) + _makings(one)


def _lacking(one: KeptStage) -> list[str]:
    """Scores that a run lacks and others have, as where a package was not installed."""
    scores = [{name for name in result.record["scores"] if result.score(name) is not None} for result in one.results]
    everything = set().union(*scores)
    return [
        f"{result.row} seed {result.seed} lacks {', '.join(sorted(everything - own))}, which others have"
        for result, own in zip(one.results, scores, strict=True)
        if own < everything
    ]


def _makings(one: KeptStage) -> list[str]:
    """Weights that were made more than once: one recipe gives other bits on another kind of processor."""
    made: dict[str, dict[str, list[str]]] = {}  # folder -> bits -> the runs that began with them
    for result in one.results:
        if named := result.pretrained_here:
            made.setdefault(named, {}).setdefault(bits_of(result.record["encoder"]), []).append(f"{result.row} seed {result.seed}")
    found = []
    for named, runs_of in made.items():
        if len(runs_of) > 1:
            which = "; ".join(f"{bits} ({', '.join(runs)})" for bits, runs in runs_of.items())
            found.append(f"{named} was made {len(runs_of)} times, with other bits: {which}")
    return found


def _arithmetic(result: Result) -> str:
    version = result.record["environment"].get("packages", {}).get("tensorflow", "unknown")
    return f"arithmetic {result.arithmetic}, TensorFlow {version}"


def _machine(result: Result) -> str:
    environment = result.record["environment"]
    exported = ", exported programs" if environment.get("exported") else ""
    return f"{environment['cpu']['name']}, GPUs {', '.join(environment['gpus']) or 'none'}{exported}"
