"""Seq2Seq-DU: Feng et al. (2021), "A Sequence-to-Sequence Approach to Dialogue State Tracking", on free text.

    source x --BERT--> E --.-- attender, both ways --> [E ; schema seen from E], [D ; utterance seen from D]
    keywords --BERT--> D --'                                  |                      |
                                              LSTM, which attends to both at each step, and a pointer over both

Their schema lists a dialogue's slots and values; free text has none, so the source's keywords are its schema. Their decoder only
points; here a softmax over the vocabulary is mixed in, without which nothing but copies could be said.
"""

import tensorflow as tf
import tf_keras as keras

from hcl_tf.layers.additive_attention import AdditiveAttention, attention_weights
from hcl_tf.layers.encoder import text_vector
from hcl_tf.layers.keyword_graph import gather_nodes
from hcl_tf.layers.noise import Noise, dropout
from hcl_tf.layers.recurrent import RecurrentDecoder
from hcl_tf.layers.shapes import dimension
from hcl_tf.models.base import Batch
from hcl_tf.models.bert_body import BertBody
from hcl_tf.models.copying import Copying
from hcl_tf.models.inputs import Inputs
from hcl_tf.models.plain_likelihood import PlainLikelihood
from hcl_tf.models.settings.recurrent import Seq2SeqDUSettings


class Seq2SeqDU(PlainLikelihood, Copying, BertBody):
    """An LSTM decoder that attends to and points at a source and its keywords, both of which one BERT encodes.

    A keyword that is not a node of the graph has no text here. The source's own vector stands for it in the schema, and the pointer never
    points there.
    """

    uses_keywords = True

    def __init__(self, settings: Seq2SeqDUSettings, inputs: Inputs, **kwargs) -> None:
        super().__init__(settings, inputs, **kwargs)
        s, width = settings, inputs.shape.width
        self.attender = AdditiveAttention(width, name="attender")
        self.to_utterance, self.to_schema = (AdditiveAttention(width, name=f"to_{name}") for name in ("utterance", "schema"))
        self.decoder = RecurrentDecoder("lstm", width, s.recurrent_layers, s.dropout, name="decoder")
        self.combine = keras.layers.Dense(width, name="combine")
        self.pointing = AdditiveAttention(width, name="pointing")
        self.build_pointer()

    # -- objective --------------------------------------------------------------------------------------------------

    def nll(self, batch: Batch, noise: Noise | None, training: bool) -> tuple[tf.Tensor, tf.Tensor]:
        """Computes the NLL of the targets, summed over real examples, and [B] of each."""
        memory, begin = self.remember(batch, noise)
        embedded = dropout(self.tokens.embed(self.decoder_inputs(batch, noise)), self.settings.dropout, noise)

        def step(carried: tuple, inputs: tf.Tensor) -> tuple:
            states, _ = carried
            return self.advance(inputs, states, memory)

        nothing = tf.zeros([dimension(embedded), 4 * embedded.shape[-1]], memory["utterance"].dtype)
        states, contexts = tf.scan(step, tf.transpose(embedded, [1, 0, 2]), (begin, nothing))  # over [T + 1, B, D]
        outputs = dropout(tf.transpose(states[-1][0], [1, 0, 2]), self.settings.dropout, noise)  # --> [B, T + 1, D]
        features, attention, context = self.point(outputs, tf.transpose(contexts, [1, 0, 2]), memory)
        return self.copying_nll(batch, features, context, attention, training)

    # -- source and schema ------------------------------------------------------------------------------------------

    def slots(self, batch: Batch) -> tf.Tensor:
        """Returns the source's pieces and the first one of each keyword, [B, S + 2 + K]."""
        return tf.concat([batch["source_ids"], gather_nodes(self.inputs_.keyword_ids[:, 1], batch["source_nodes"])], 1)

    def encode_schema(self, nodes: tf.Tensor, noise: Noise | None) -> tf.Tensor:
        """Encodes the texts of keywords, [B, K] nodes. Returns their vectors [B, K, D]."""
        keywords = nodes.shape[1]
        # All first keywords, then all second ones: the order of stacked noise.
        ids = gather_nodes(self.inputs_.keyword_ids, tf.transpose(nodes))  # --> [K, B, P]
        ids = tf.reshape(ids, [-1, self.inputs_.keyword_ids.shape[1]])
        vectors = text_vector(self.encoder(ids, noise and noise.stacked(keywords)), self.encoder.mask(ids))
        return tf.transpose(tf.reshape(vectors, [keywords, -1, vectors.shape[-1]]), [1, 0, 2])

    def remember(self, batch: Batch, noise: Noise | None) -> tuple[dict[str, tf.Tensor], tuple]:
        """Reads source and schema. Returns what the decoder attends to and points at, and its first states."""
        texts, nodes = self.encode(batch, noise), batch["source_nodes"]
        known = nodes >= 0
        own = (batch["source_unknown"] > 0) | ~tf.reduce_any(known, 1)  # unknown keywords, or none: the schema is never empty
        schema_mask = tf.concat([known, own[:, None]], 1)  # --> [B, K + 1]
        schema = tf.concat([self.encode_schema(nodes, noise), texts["source"][:, None]], 1)  # --> [B, K + 1, D]
        utterance, schema = self.attend_both_ways(texts["states"], texts["mask"], schema, schema_mask)
        # A keyword whose first piece is unknown can't be said; the last place of the schema stands for keywords without any text.
        named = known & (gather_nodes(self.inputs_.keyword_ids[:, 1], nodes) != self.inputs_.unknown_id)
        memory = {
            "utterance": utterance, "utterance_items": self.to_utterance.remember(utterance), "utterance_mask": texts["mask"],
            "schema": schema, "schema_items": self.to_schema.remember(schema), "schema_mask": schema_mask,
            "slot_items": self.pointing.remember(tf.concat([utterance, schema[:, :-1]], 1)),
            "slot_mask": tf.concat([self.is_word(batch["source_ids"]), named], 1),
        }  # fmt: skip
        return memory, self.decoder.begin(texts["source"])

    def attend_both_ways(
        self, utterance: tf.Tensor, utterance_mask: tf.Tensor, schema: tf.Tensor, schema_mask: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Appends to each position of the utterance [B, S + 2, D] and of the schema [B, K + 1, D] what it sees of the other.

        Returns:
          [B, S + 2, 2 D] and [B, K + 1, 2 D].
        """
        utterance = tf.cast(utterance, self.compute_dtype)
        schema = tf.cast(schema, utterance.dtype)
        scores = self.attender.scores(utterance, self.attender.remember(schema))  # --> [B, S + 2, K + 1]
        to_schema = tf.cast(attention_weights(scores, schema_mask, self.variable_dtype), utterance.dtype)
        to_utterance = tf.cast(attention_weights(tf.transpose(scores, [0, 2, 1]), utterance_mask, self.variable_dtype), utterance.dtype)
        seen_of_schema, seen_of_utterance = tf.matmul(to_schema, schema), tf.matmul(to_utterance, utterance)
        return tf.concat([utterance, seen_of_schema], -1), tf.concat([schema, seen_of_utterance], -1)

    # -- decoder ----------------------------------------------------------------------------------------------------

    def advance(self, embedded: tf.Tensor, states: tuple, memory: dict) -> tuple[tuple, tf.Tensor]:
        """Takes one step of all rows from inputs [B * beams, D]. Returns the states after it, and what it attended to, [B * beams, 4 D]."""
        found = []
        for name, attention in (("utterance", self.to_utterance), ("schema", self.to_schema)):
            queries = tf.reshape(states[-1][0], [tf.shape(memory[name])[0], -1, states[-1][0].shape[-1]])
            weights = attention(queries, memory[f"{name}_items"], memory[f"{name}_mask"])
            context = tf.matmul(tf.cast(weights, memory[name].dtype), memory[name])
            found.append(tf.reshape(context, [-1, context.shape[-1]]))
        contexts = tf.concat(found, -1)
        return self.decoder.step(tf.concat([embedded, tf.cast(contexts, embedded.dtype)], -1), states)[1], contexts

    def point(self, outputs: tf.Tensor, contexts: tf.Tensor, memory: dict) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Points from outputs [B, L, D] and what they attended to [B, L, 4 D].

        Returns:
          What the output layer gets, [B, L, D]; the pointer's attention over the slots, [B, L, S + 2 + K]; what p_gen depends on.
        """
        seen = tf.concat([outputs, tf.cast(contexts, outputs.dtype)], -1)
        return self.combine(seen), self.pointing(outputs, memory["slot_items"], memory["slot_mask"]), seen

    def start(self, batch: Batch, beams: int, noise: Noise | None) -> tuple[tuple, dict]:
        memory, begin = self.remember(batch, None)
        return tf.nest.map_structure(lambda state: tf.repeat(state, beams, 0), begin), {"memory": memory, **self.copying_start(batch)}

    def step(self, ids: tf.Tensor, position: tf.Tensor, cache: tuple, fixed: dict) -> tuple[tf.Tensor, tuple]:
        cache, contexts = self.advance(self.tokens.embed(self.copied_pieces(ids, fixed)), cache, fixed["memory"])
        by_text = (self.by_text(rows, fixed) for rows in (cache[-1][0], contexts))
        features, attention, context = self.point(*by_text, fixed["memory"])
        return self.copying_scores(features, context, attention, fixed), cache
