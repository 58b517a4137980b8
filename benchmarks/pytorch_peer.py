"""transformers' EncoderDecoderModel on PyTorch, driven through pipes by training.py and decoding.py (side_by_side.Peer).

Reads one JSON object a line, does that work, answers one JSON object a line. Between them it waits and computes nothing.
"""

import json
import os
import sys
import time

import numpy as np
import torch
import transformers

ARRAYS = np.load(sys.argv[1])
SHAPE = json.loads(sys.argv[2])


def make_model(shared: bool, dropout: float) -> transformers.EncoderDecoderModel:
    """BERT to BERT at random weights; `shared`: one embedding table for both and for the output, as in our systems."""
    s = SHAPE
    sizes = {
        "vocab_size": s["vocabulary"], "hidden_size": s["width"], "num_hidden_layers": s["layers"], "num_attention_heads": s["heads"],
        "intermediate_size": s["intermediate"], "hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout,
    }  # fmt: skip
    encoder = transformers.BertConfig(**sizes)
    decoder = transformers.BertConfig(**sizes, is_decoder=True, add_cross_attention=True, hidden_act="relu")  # as ours
    model = transformers.EncoderDecoderModel(transformers.EncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder))
    for config in (model.config, model.generation_config):
        config.decoder_start_token_id, config.eos_token_id, config.pad_token_id = s["cls"], s["sep"], s["pad"]
    if shared:
        model.decoder.bert.embeddings.word_embeddings.weight = model.encoder.embeddings.word_embeddings.weight
        model.decoder.cls.predictions.decoder.weight = model.encoder.embeddings.word_embeddings.weight
    return model


def longest(ids: np.ndarray) -> np.ndarray:
    """Cuts padding that no text of the batch needs, as the library's collators do."""
    return ids[:, : int((ids != SHAPE["pad"]).sum(1).max())]


class Training:
    """AdamW steps as a user's own loop takes them: fused optimiser, gradient norm clipped, loss fetched each step."""

    def __init__(self, shared: bool, compiled: bool) -> None:
        torch.manual_seed(1)
        self.model = make_model(shared, SHAPE["dropout"]).train()
        self.run = torch.compile(self.model) if compiled else self.model
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=SHAPE["rate"], fused=True)
        self.batches = []
        for source, target in zip(ARRAYS["source_ids"], ARRAYS["target_ids"], strict=True):
            source, labels = (torch.from_numpy(longest(ids)).long() for ids in (source, target[:, 1:]))
            mask = (source != SHAPE["pad"]).long()
            self.batches.append({"input_ids": source, "attention_mask": mask, "labels": labels.masked_fill(labels == SHAPE["pad"], -100)})
        self.number = 0

    def steps(self, count: int) -> dict:
        start = time.perf_counter()
        for _ in range(count):
            batch = self.batches[self.number % len(self.batches)]
            self.optimizer.zero_grad(set_to_none=True)
            loss = self.run(**batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), SHAPE["clip"])
            self.optimizer.step()
            last, self.number = loss.item(), self.number + 1
        return {
            "seconds": (time.perf_counter() - start) / count,
            "loss": last,
            "parameters": sum(p.numel() for p in self.model.parameters()),
        }


class Decoding:
    """`generate` with one embedding table, whose entries are `sharpness` times as large as they come."""

    def __init__(self, sharpness: float) -> None:
        torch.manual_seed(1)
        self.model, self.calls = make_model(True, 0.0).eval(), 0
        with torch.no_grad():
            self.model.encoder.embeddings.word_embeddings.weight.mul_(sharpness)
        self.model.decoder.register_forward_hook(self._count)
        self.sources = [torch.from_numpy(longest(source)).long() for source in ARRAYS["source_ids"]]
        self.number = 0

    def _count(self, *_) -> None:
        self.calls += 1

    def batches(self, count: int, end_bias: float, minimum: int, maximum: int, beams: int, length_penalty: float) -> dict:
        with torch.no_grad():
            self.model.decoder.cls.predictions.bias[SHAPE["sep"]] = end_bias
        settings = {"num_beams": beams, "min_new_tokens": minimum, "max_new_tokens": maximum, "length_penalty": length_penalty}
        found, self.calls, start = [], 0, time.perf_counter()
        for _ in range(count):
            source = self.sources[self.number % len(self.sources)]
            with torch.inference_mode():
                mask = (source != SHAPE["pad"]).long()
                found.append(self.model.generate(source, attention_mask=mask, do_sample=False, **settings))
            self.number += 1
        seconds = (time.perf_counter() - start) / count
        special = torch.tensor([SHAPE["pad"], SHAPE["sep"]])
        lengths = [(~torch.isin(ids[:, 1:], special)).sum(1).float().mean().item() for ids in found]  # the first token is [CLS]
        return {"seconds": seconds, "calls": self.calls / count, "length": sum(lengths) / count}


def product(size: int) -> dict:
    """Seconds of one square matrix product."""
    a, b = torch.rand(size, size), torch.rand(size, size)
    start = time.perf_counter()
    torch.mm(a, b)
    return {"seconds": time.perf_counter() - start}


def main() -> None:
    """Answers until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not stand among the answers
    trainings, decodings = {}, {}
    for line in sys.stdin:
        request = json.loads(line)
        work = request.pop("work")
        torch.set_num_threads(request.pop("threads"))
        if work == "versions":
            answer = {"PyTorch": torch.__version__, "transformers": transformers.__version__}
        elif work == "product":
            answer = product(**request)
        elif work == "train":
            count, key = request.pop("count"), tuple(request.items())
            trainings[key] = trainings.get(key) or Training(**request)
            answer = trainings[key].steps(count)
        else:
            key = request.pop("sharpness")
            decodings[key] = decodings.get(key) or Decoding(key)
            answer = decodings[key].batches(**request)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
