"""Measures all that a row of a table is worth: scores, and studies beside them, of one run that is opened once."""

from collections.abc import Callable, Sequence

from hcl_tf.errors import UserError
from hcl_tf.evaluation.scoring import EvaluationRequest, evaluate
from hcl_tf.models import registry
from hcl_tf.progress import working
from hcl_tf.studies.channel import publication as channel
from hcl_tf.studies.channel.meter import MeterRequest
from hcl_tf.studies.keyword_control.swaps import KeywordControlRequest, keyword_control
from hcl_tf.studies.likelihood import publication as likelihood
from hcl_tf.studies.likelihood.importance import LikelihoodRequest
from hcl_tf.studies.representations import publication as representations
from hcl_tf.studies.representations.figure3 import Figure3Request, make
from hcl_tf.training.trained_run import BEST, TrainedRun


def measure(request: EvaluationRequest, studies: Sequence[str]) -> None:
    """Evaluates a run, and makes studies of it (names of packages of hcl_tf.studies).

    One process does all of it: starting TensorFlow, building a model and tracing it take longer than a study of some hundred examples.

    Raises:
      UserError: as those of `evaluate` and the studies.
    """
    trained = TrainedRun(request.run_dir, request.checkpoint, request.data_dir, finished="keyword_control" in studies)
    with_z = registry.systems_with("latent_size")
    if studies and trained.settings.model not in with_z:
        raise UserError(f"--study={studies[0]}: {trained.settings.model} has no latent z; {', '.join(with_z)} have one. Drop the flag")
    evaluate(request, trained)
    for name, study in STUDIES.items():
        if name in studies:
            study(trained, request)


def _channel(trained: TrainedRun, request: EvaluationRequest) -> None:
    pulls = trained.settings.model in registry.systems_with("weight_ins")
    channel.publish(trained, MeterRequest(request.split, request.limit, what_if=pulls, untrained=False))


def _likelihood(trained: TrainedRun, request: EvaluationRequest) -> None:
    likelihood.publish(trained, LikelihoodRequest(request.split, request.limit))


def _keyword_control(trained: TrainedRun, request: EvaluationRequest) -> None:
    with working("keyword control"):
        keyword_control(KeywordControlRequest(request.run_dir, split=request.split, checkpoint=request.checkpoint), trained)


def _representations(trained: TrainedRun, request: EvaluationRequest) -> None:
    at_best = trained if request.checkpoint == BEST[0] else TrainedRun(request.run_dir, data_dir=request.data_dir)
    with working("representations"):
        found = make(at_best, Figure3Request(request.split))
    representations.publish(at_best.run, found)


# All of `config.STUDIES`, in the order in which they are made. What they write is read by `evaluation.rows.FURTHER`.
STUDIES: dict[str, Callable[[TrainedRun, EvaluationRequest], None]] = {
    "channel": _channel,
    "likelihood": _likelihood,
    "keyword_control": _keyword_control,
    "representations": _representations,  # last: it makes TensorFlow deterministic, and slower, from here on
}
