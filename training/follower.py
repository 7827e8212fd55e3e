"""A rank of a training that does its share of the work and writes nothing, since rank 0 has the run (`Trainer`)."""

import contextlib
import dataclasses
from collections.abc import Iterator

import runs
from distribution import member
from structures import UserError
from system.data_queue import DataQueue, WorkerError
from system.stopping import StopRequest
from training import engine, progress, trainer, training_graph


@contextlib.contextmanager
def open_follower(task: trainer.Task, stop: StopRequest) -> Iterator["Follower"]:
    """Context manager: the Follower of a task, with everything that it needs open until the block ends."""
    with contextlib.ExitStack() as stack:
        with member.silent(True):  # rank 0 says the same
            opened = stack.enter_context(trainer.open_network(task, stop))
            state = opened.receive()
            queue = stack.enter_context(trainer.open_queue(opened.task))
        yield Follower(opened.task, opened.graph, state, queue)


@dataclasses.dataclass
class Follower:
    """Trains and validates epoch by epoch in step with rank 0.

    task: what to do, with a group; graph: the network and its session; state: the position of the training, without
    the records of epochs; queue: makes this rank's share of the batches.
    """

    task: trainer.Task
    graph: training_graph.TrainingGraph
    state: runs.TrainingState
    queue: DataQueue

    def train(self) -> None:
        """Train to the end. Raises what `Group.check` does if rank 0 or another rank ends before."""
        task, state, plan = self.task, self.state, self.task.plan
        for _ in progress.epochs_left(state, plan, say=lambda _: None):
            try:
                batches = trainer.epoch_batches(task, self.queue, state)
                engine.train_one_epoch(
                    self.graph, batches, state, plan, task.samples, self._after_step, group=task.group
                )
            except WorkerError as error:
                raise UserError(f"{task.group.cluster.name(task.group.rank)}: {error}") from None
            self._finish_epoch()

    def _after_step(self, *_):
        self.task.group.check()

    def _finish_epoch(self):
        task, state, plan = self.task, self.state, self.task.plan
        if progress.validates(state, plan):
            trainer.validate(task, self.graph, task.scored, task.group.check)
        state.best, state.stale = task.group.share()
        if state.batch >= plan.batches_per_epoch:
            state.begin_next_epoch()
