"""CTranslate2's beam search with weights of ours, driven through pipes by decoding.py (side_by_side.Peer).

Reads one JSON object a line, does that work, answers one JSON object a line. Between them it waits and computes nothing.
"""

import json
import os
import sys
import tempfile
import time

import ctranslate2
import numpy as np
from ctranslate2.specs import TransformerDecoderSpec, TransformerEncoderSpec, TransformerSpec
from ctranslate2.specs.common_spec import Activation

ARRAYS = dict(np.load(sys.argv[1]))
SHAPE = json.loads(sys.argv[2])


class Decoding:
    """A model of the arrays whose names begin with "weights/", behind them the path in CTranslate2's specification.

    Args:
      end_bias: replaces the output layer's bias of the end token.
    """

    def __init__(self, threads: int, end_bias: float) -> None:
        ARRAYS["weights/decoder.projection.bias"][SHAPE["sep"]] = end_bias
        layers, heads = SHAPE["layers"], SHAPE["heads"]
        spec = TransformerSpec(
            TransformerEncoderSpec(layers, heads, pre_norm=False, activation=Activation.GELU, layernorm_embedding=True),
            TransformerDecoderSpec(layers, heads, pre_norm=True, activation=Activation.RELU, layernorm_embedding=True),
        )
        spec.encoder.scale_embeddings = spec.decoder.scale_embeddings = False
        for name, values in ARRAYS.items():
            if name.startswith("weights/"):
                assign(spec, name.removeprefix("weights/").split("."), values)
        pieces = [str(i) for i in range(SHAPE["vocabulary"])]
        spec.register_source_vocabulary(pieces)
        spec.register_target_vocabulary(pieces)
        config = spec.config
        config.unk_token, config.eos_token = str(SHAPE["unknown"]), str(SHAPE["sep"])
        config.bos_token = config.decoder_start_token = str(SHAPE["cls"])
        spec.validate()
        with tempfile.TemporaryDirectory() as folder:
            spec.save(folder)
            self.translator = ctranslate2.Translator(folder, compute_type="float32", intra_threads=threads, inter_threads=1)
        self.sources = [[[str(i) for i in row if i != SHAPE["pad"]] for row in batch] for batch in ARRAYS["source_ids"]]
        self.number = 0

    def batches(self, count: int, minimum: int, maximum: int, beams: int, length_penalty: float) -> dict:
        """Seconds a batch, and what the last one gave."""
        settings = {"beam_size": beams, "min_decoding_length": minimum, "max_decoding_length": maximum, "length_penalty": length_penalty}
        start = time.perf_counter()
        for _ in range(count):
            found = self.translator.translate_batch(self.sources[self.number % len(self.sources)], **settings)
            self.number += 1
        seconds = (time.perf_counter() - start) / count
        ids = [[int(piece) for piece in result.hypotheses[0]] for result in found]
        return {"seconds": seconds, "ids": ids, "length": sum(map(len, ids)) / len(ids)}


def assign(at: object, path: list[str], values: np.ndarray) -> None:
    """Puts values where a path of attributes and numbers leads."""
    *way, last = path
    for part in way:
        at = at[int(part)] if part.isdigit() else getattr(at, part)
    setattr(at, last, values)


def main() -> None:
    """Answers until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not stand among the answers
    decoding, made_with = None, None
    for line in sys.stdin:
        request = json.loads(line)
        work, threads = request.pop("work"), request.pop("threads")
        if work == "versions":
            answer = {"CTranslate2": ctranslate2.__version__}
        else:
            if (bias := request.pop("end_bias")) != made_with:
                decoding, made_with = Decoding(threads, bias), bias
            answer = decoding.batches(**request)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
