"""The script drives any scheduler by hand, and catches what breaks an invariant."""

from __future__ import annotations

import pytest

from simserve import load_scenario
from simserve.errors import IntegrityError
from simserve.scheduler.batch import Forecast
from simserve.scheduler.sarathi import SarathiScheduler
from simserve.testing.jumps import check_jumps
from simserve.testing.script import Script

SCENARIO = (
    "model: llama-3.1-8b\n"
    "workload: {arrivals: 40, prompt_tokens: 100, output_tokens: 50, requests: 30}\n"
    "pools: {hardware: h100-sxm, engine: {max_model_len: 512}}\n"
)


@pytest.mark.parametrize("kind", ["vllm", "sarathi", "orca"])
def test_steps_are_what_ran(kind: str) -> None:
    script = Script(kind)
    first, second = script.add(4, 3), script.add(6, 2)
    steps = script.run()
    assert steps[0] == {first: 4, second: 6}
    assert len(steps) == 3
    assert script.finished == [second, first]


def test_a_block_that_is_lost_is_caught() -> None:
    class Losing(SarathiScheduler):
        def decide(self) -> None:
            super().decide()
            self.pool.num_free -= 1

    script = Script(Losing)
    script.add(4, 3)
    with pytest.raises(IntegrityError):
        script.step()


class Misforecasting(SarathiScheduler):
    """Tells the engine of longer contexts than there are."""

    def forecast(self, schedules: int) -> Forecast:
        ((sequences, context),) = super().forecast(schedules).cohorts
        return Forecast([(sequences, context + 10_000)])


def test_jumps_of_a_kind_are_compared() -> None:
    check_jumps(load_scenario(SCENARIO, ["pools.0.engine.kind=sarathi"]))
    with pytest.raises(IntegrityError, match="jumps"):
        check_jumps(load_scenario(SCENARIO, [f"pools.0.engine.kind={__name__}:Misforecasting"]))


def test_a_seat_that_is_lost_in_the_step_in_which_it_was_given_leaves_no_trace() -> None:
    class Hesitant(SarathiScheduler):
        def decide(self) -> None:
            super().decide()
            if self.steps == 1 and len(self.running) > 1:
                self.preempt(self.running[-1])

    script = Script(Hesitant)
    first = script.add(4, 6)
    script.step()
    second = script.add(4, 2)
    sequence = script.scheduler.sequences[second]
    assert script.step() == {first: 1}
    assert (sequence.first_step, sequence.preemptions, sequence.spans) == (-1, 0, None)
    script.run()
    assert (sequence.first_step, sequence.preemptions, sequence.spans) == (2, 0, None)
    assert script.finished == [second, first]
