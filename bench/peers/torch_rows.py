"""The work of rlhf-bench in PyTorch, each in the fastest formulation found. Prints: row name, seconds (median)."""

import statistics
import sys
import time

import torch

quick = "--quick" in sys.argv


def seconds(work, repetitions=None):
    repetitions = repetitions or (5 if quick else 11)
    work()
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def logits_rows(dtype, name, threads):
    torch.set_num_threads(threads)
    suffix = f"/{name}/{threads}t"
    logits = (torch.rand(1024, 32000) * 16 - 8).to(dtype)
    target = torch.arange(1024) * 31 % 32000
    index = target.unsqueeze(1)
    weight = torch.rand(1024) * 2e-3 - 1e-3

    def by_log_softmax():
        return torch.log_softmax(logits, -1).gather(1, index)

    def by_cross_entropy():
        return torch.nn.functional.cross_entropy(logits, target, reduction="none")

    def by_logsumexp():
        return logits.gather(1, index) - torch.logsumexp(logits, -1, keepdim=True)

    with torch.no_grad():
        forward = min(seconds(f) for f in (by_log_softmax, by_cross_entropy, by_logsumexp))
    print("cpu/token_logp/stream" + suffix, forward)

    def with_entropy():
        logp = torch.log_softmax(logits, -1)
        return logp.gather(1, index), -(logp.exp() * logp).sum(-1)

    with torch.no_grad():
        print("cpu/token_logp_entropy/stream" + suffix, seconds(with_entropy))

    learned = logits.clone().requires_grad_(True)

    def both(f):
        def run():
            learned.grad = None
            (f(learned) * weight).sum().backward()

        return run

    def logp_of(x):
        return torch.log_softmax(x, -1).gather(1, index).squeeze(1)

    def entropy_of(x):
        return -torch.nn.functional.cross_entropy(x, target, reduction="none")

    # Ours is the backward pass alone: forward is subtracted from forward and backward.
    total = min(seconds(both(logp_of)), seconds(both(entropy_of)))
    print("cpu/token_logp_backward/scale" + suffix, max(total - forward, 1e-9))


def gae():
    torch.set_num_threads(2)
    rows, steps = 512, 1024
    reward, value = torch.rand(steps, rows), torch.rand(steps + 1, rows)
    value[-1] = 0
    advantage = torch.empty(steps + 1, rows)

    def run():
        with torch.no_grad():
            delta = reward + value[1:] - value[:-1]
            advantage[-1] = 0
            for t in range(steps - 1, -1, -1):
                torch.add(delta[t], advantage[t + 1], alpha=0.95, out=advantage[t])
            return advantage[:-1], advantage[:-1] + value[:-1]

    print("cpu/gae", seconds(run))


def rto():
    torch.set_num_threads(2)
    rows, width = 512, 1024
    old, ref, dpo_policy = (torch.rand(rows, width) * 3 - 3 for _ in range(3))
    score = torch.rand(rows) * 2 - 1
    lengths = 512 + torch.arange(rows) % 512
    mask = torch.arange(width) < lengths.unsqueeze(1)
    last = (lengths - 1).unsqueeze(1)

    def run():
        with torch.no_grad():
            reward = (0.05 * (dpo_policy - ref)).clamp_(-0.05, 0.05).sub_(old - ref, alpha=0.01).mul_(mask)
            return reward.scatter_add_(1, last, score.unsqueeze(1))

    print("cpu/rto_rewards", seconds(run))


def dpo():
    torch.set_num_threads(1)
    chosen, rejected, ref_chosen, ref_rejected = (-torch.rand(4096) * 55 - 5 for _ in range(4))
    chosen.requires_grad_(True)
    rejected.requires_grad_(True)

    def run():
        chosen.grad = rejected.grad = None
        margin = (chosen - ref_chosen) - (rejected - ref_rejected)
        torch.nn.functional.softplus(-0.1 * margin).mean().backward()

    print("cpu/dpo_4096", seconds(run, 200))


def ppo():
    torch.set_num_threads(1)
    n = (4 if quick else 16) << 20
    logp = (torch.rand(n) * 3 - 3).requires_grad_(True)
    old = logp.detach() + 0.1 * torch.rand(n)
    advantage = torch.rand(n) * 2 - 1

    def run():
        logp.grad = None
        ratio = (logp - old).exp()
        torch.max(-ratio * advantage, -ratio.clamp(0.8, 1.2) * advantage).mean().backward()

    print("cpu/ppo_clip/scalar", seconds(run))


for thread_count in (1, 2):
    logits_rows(torch.float32, "f32", thread_count)
    logits_rows(torch.bfloat16, "bf16", thread_count)
gae()
rto()
dpo()
ppo()
