"""Shows what `meter.measure` found: as lines for a terminal, and as a page."""

from hcl_tf.evaluation import links
from hcl_tf.evaluation.evaluated_run import title_of
from hcl_tf.evaluation.intervals import columns, entry_text, number
from hcl_tf.markdown import markdown_table

# What is shown of the figures, and in what words; all are in the JSON.
AT_THE_PRIOR = {
    "nll_prior_shuffled_minus_prior": "another example's prior mean",
    "nll_u_shuffled_minus_graph": "another example's keywords, in the prior",
    "nll_u_unknown_minus_graph": "no keyword of the graph",
    "nll_u_graph_minus_oracle": "the source's keywords in place of the target's own (an oracle)",
    "nll_prior_sampled_minus_prior": "a z drawn from the prior",
    "nll_zero_minus_prior": "z = 0",
    "nll_prior_minus_moved": "z not where L_ins pulls it",
}
SCALES = (
    "pull_ins", "kl", "infonce", "deviation_prior", "deviation_posterior", "length_prior_mean", "length_posterior_mean", "length_u_known",
    "length_u_unknown", "h_target", "h_negative", "h_target_of_means", "h_negative_of_means", "h_target_of_variances",
    "h_negative_of_variances", "impostor_cosine", "random_cosine",
)  # fmt: skip
PULL = "pull_ins: how far L_ins moves the prior's mean, in deviations of the prior (BUILD_NOTES 97)."


def lines(found: dict) -> list[str]:
    """Returns the most important figures as plain text."""
    text = [
        title_of(found),
        *links.lines([links.Link(**link) for link in found["links"]]),
        "",
        f"{'nats lost by':<60}{'value':>9}  95% interval",
    ]
    text += [f"{words:<60}{columns(found['figures']['differences'][name])}".rstrip() for name, words in _known(found).items()]
    for name, row in found["contrasts"].items():
        blind, before = (number(row[key]) for key in ("blind_order", "untrained_order"))
        text.append(
            f"L_{name}: order {entry_text(row['order'])}, blind {blind}, before training {before}, worth {number(row['gain'])} nats"
        )
    for name, row in found.get("what_if", {}).items():
        text.append(
            f"z = mu_p + {name} (mu+ - mu-): NLL {entry_text(row['nll'])}, margin of target over negative {entry_text(row['margin'])}"
        )
    return text


def page(found: dict) -> str:
    """Returns the page in Markdown."""
    parts = [
        f"# The channel: {title_of(found)}",
        _links(found),
        links.RULE,
        "## At the prior's mean: nats a text lost by\n\n"
        + markdown_table([{"": words, "nats": entry_text(found["figures"]["differences"][name])} for name, words in _known(found).items()]),
        "## Scales\n\n"
        + markdown_table(
            [{"": name, "mean": entry_text(found["figures"]["means"][name])} for name in SCALES if name in found["figures"]["means"]]
        )
        + f"\n\n{PULL} infonce is at most {found['infonce_ceiling']:.3f} (the logarithm of the examples compared). Active units beyond the "
        f"prior: {found['figures'].get('active_units_beyond_prior', '-')} of {found['figures']['latent_size']}.",
    ]
    if found["contrasts"]:
        parts.append(f"## Contrasts\n\n{_contrasts(found['contrasts'])}")
    if found["preference"]:
        rows = [{"": name, "mean": entry_text(entry)} for name, entry in found["preference"].items()]
        parts.append(f"## Target against negative, at the prior's mean\n\n{markdown_table(rows)}")
    if "gradients" in found:
        parts.append(
            f"## Gradients\n\nNorm, and in brackets the cosine with the likelihood's gradient.\n\n{_gradients(found['gradients'])}"
        )
    if "what_if" in found:
        rows = [
            {"alpha": name, "NLL": entry_text(row["nll"]), "margin": entry_text(row["margin"]), "moved by": entry_text(row["moved"])}
            for name, row in found["what_if"].items()
        ]
        parts.append(
            "## What if L_ins had its way\n\nz = mu_p + alpha (mu+ - mu-). It reads the target, so it is a bound and no prediction. "
            "The margin is the negative's NLL minus the target's.\n\n" + markdown_table(rows)
        )
    return "\n\n".join(parts) + "\n"


def _known(found: dict) -> dict[str, str]:
    return {name: words for name, words in AT_THE_PRIOR.items() if name in found["figures"]["differences"]}


def _links(found: dict) -> str:
    judged = [links.Link(**link) for link in found["links"]]
    roads = "; ".join(f"from {name} to the text: {links.road(judged, name)}" for name in links.ROADS)
    return markdown_table([{"link": link.name, "": link.verdict, "because": link.because} for link in judged]) + f"\n\n{roads}."


def _contrasts(found: dict[str, dict]) -> str:
    return markdown_table(
        [
            {
                "": f"L_{name}",
                "margin, mean": entry_text(row["margin"]),
                "median": number(row["median"]),
                "order": entry_text(row["order"]),
                "blind order": number(row["blind_order"]),
                "order before training": number(row["untrained_order"]),
                "worth, nats": number(row["gain"]),
            }
            for name, row in found.items()
        ]
    )


def _gradients(found: dict[str, dict]) -> str:
    parts = list(next(iter(found.values())))
    return markdown_table(
        [
            {"term": term} | {part: f"{row[part]['norm']['value']:.3g} ({number(row[part]['cosine']['value'], '.2f')})" for part in parts}
            for term, row in found.items()
        ]
    )
