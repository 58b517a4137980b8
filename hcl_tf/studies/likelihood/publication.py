"""Measures the likelihood of a run's targets and writes the page into its folder."""

from hcl_tf.evaluation.evaluated_run import title_of
from hcl_tf.evaluation.intervals import entry_text
from hcl_tf.evaluation.scoring import EvaluationRequest
from hcl_tf.markdown import markdown_table
from hcl_tf.progress import working
from hcl_tf.studies.likelihood.importance import LikelihoodRequest, measure
from hcl_tf.training.trained_run import TrainedRun


def publish(trained: TrainedRun, request: LikelihoodRequest) -> None:
    """Writes likelihood.<label>.json and .md, labelled as evaluation's results are, and prints the figures. Errors as of `measure`."""
    trained.run.check_writable()
    with working("estimating the likelihood"):
        found = measure(trained, request)
    label = EvaluationRequest(trained.path, request.split, trained.checkpoint, limit=request.limit).label
    trained.run.write_json(f"likelihood.{label}.json", found)
    path = trained.run.write_text(f"likelihood.{label}.md", page(found))
    print("\n".join(f"NLL of y+, bound of {draws:>4} draws  {entry_text(entry)}" for draws, entry in found["bounds"].items()))
    print(f"wrote {path}")


def page(found: dict) -> str:
    """Returns the page in Markdown."""
    bounds = markdown_table([{"draws": draws, "nats a text": entry_text(entry)} for draws, entry in found["bounds"].items()])
    about = (
        "What a target costs whatever z, by importance sampling with draws from posterior and prior: an upper bound, which falls to "
        "-log p(y | x) as draws grow. How far it still falls in the last line says how tight it is."
    )
    worth = f"The draws of an example are worth {entry_text(found['effective_draws'])} of equal weight."
    return "\n\n".join((f"# The likelihood: {title_of(found)}", about, bounds, worth)) + "\n"
