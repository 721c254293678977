"""One fuzzed call: drawn, run and judged."""

import contextlib
import faulthandler
import traceback
import warnings
from collections import Counter

from calls import FaultError, check, draw_messages, draw_polynomial, draw_product
from choices import Choices
from wrong import check_refusal, draw_graph_arguments, draw_polynomial_arguments, draw_rule_arguments, spoil

import sparseacc


def fuzz(choices):
    """Draws a call and runs it; returns what kind it was, and raises a FaultError if the library was wrong."""
    kind = choices.below(20)
    if kind == 15:
        drawn = (draw_rule_arguments, draw_graph_arguments, draw_polynomial_arguments)
        check_refusal(*choices.of(drawn)(choices))
        return "refused"
    call = (draw_polynomial if kind > 15 else (draw_product, draw_messages)[kind % 2])(choices)
    if call is None:
        return "nothing"
    if kind in (13, 14, 19):
        check_refusal(call.function, *spoil(choices, call))
        for memory in (*call.inputs, *([] if call.out is None else [call.out])):
            if not memory.is_unchanged():
                raise FaultError("a call that is refused has written to memory")
        return "refused"
    sparseacc.cpu.set_instruction_set(choices.of(sparseacc.cpu.instruction_sets()[::-1]))
    check(call, choices)
    return getattr(call.function, "__qualname__", type(call.function).__name__)


def number(seed, n):
    """Call n of a run, by the choices that its seed gives."""
    return fuzz(Choices(f"{seed}/{n}"))


def failure(seed, n):
    """What is wrong with a call, as text; None if nothing is."""
    try:
        number(seed, n)
    except Exception:
        return f"call {n} of seed {seed}:\n{traceback.format_exc()}"
    return None


@contextlib.contextmanager
def settings_restored():
    """A call chooses an instruction set."""
    before = sparseacc.cpu.instruction_set()
    try:
        yield
    finally:
        sparseacc.cpu.set_instruction_set(before)


def chunk(seed, first, last):
    """Runs some calls; returns what they were, and what is wrong."""
    faulthandler.enable()
    warnings.simplefilter("error")
    kinds, failures = Counter(), []
    for n in range(first, last):
        try:
            kinds[number(seed, n)] += 1
        except Exception:
            failures.append(failure(seed, n) or f"call {n} of seed {seed} is wrong only after those before it")
    return kinds, failures
