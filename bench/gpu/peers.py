"""The work of rlhf-gpu-bench in PyTorch eager, torch.compile, Liger-Kernel and TRL, at the same shapes.

Prints JSON lines: name (our row), peer, seconds (median of device events; null for a peer that failed, with its error),
peak_bytes beside the inputs; before each a line with `begins`. `--done FILE`: a JSON list of [name, peer] that are left out. A
peer that cannot be imported is said on stderr and left out.
"""

import glob
import json
import os
import statistics
import subprocess
import sys
import tempfile

found = glob.glob(os.path.join(os.environ.get("RLHF_GPU_WHEELS", "/nonexistent"), "*.whl"))
if found:
    site = tempfile.mkdtemp()
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-compile", "--target", site, *found],
                   stdout=sys.stderr)
    sys.path.insert(0, site)

import torch

device = torch.device("cuda")
generator = torch.Generator(device=device).manual_seed(1)
quick = "--quick" in sys.argv
done = set()
if "--done" in sys.argv:
    with open(sys.argv[sys.argv.index("--done") + 1]) as file:
        done = {tuple(pair) for pair in json.load(file)}


def random(shape, low, high, dtype=torch.float32):
    return torch.empty(shape, device=device, dtype=dtype).uniform_(low, high, generator=generator)


lead_from, lead_to = (torch.zeros(2**29, dtype=torch.uint8, device=device) for _ in range(2))


class prepared:
    """Work that needs something made first, which may fail as it may."""

    def __init__(self, make):
        self.make = make


def report(name, peer, work, repetitions=15):
    """Warm up three times, then the median; memory of one run beyond what was there. `work` may be a preparation that gives it."""
    if (name, peer) in done:
        return
    print(json.dumps({"name": name, "peer": peer, "begins": True}), flush=True)
    try:
        if isinstance(work, prepared):
            work = work.make()
        for _ in range(3):
            work()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        torch.cuda.synchronize()
        peak = torch.cuda.max_memory_allocated() - before
        times = []
        for _ in range(3 if quick else repetitions):
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            lead_to.copy_(lead_from)  # as in main.cu: the device is busy while the work is queued
            begin.record()
            work()
            end.record()
            end.synchronize()
            times.append(begin.elapsed_time(end) * 1e-3)
        print(json.dumps({"name": name, "peer": peer, "seconds": statistics.median(times), "peak_bytes": peak}), flush=True)
    except Exception as error:  # a peer that fails is a row without seconds, not the end
        said = f"{type(error).__name__}: {error}"[:300]
        print(json.dumps({"name": name, "peer": peer, "seconds": None, "error": said}), flush=True)
        print(f"peers: {name} by {peer}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        torch.cuda.empty_cache()


def peer(name, module):
    try:
        return __import__(module, fromlist=["*"])
    except Exception as error:
        print(f"peers: no {name}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return None


trl = peer("TRL", "trl.trainer.utils")
liger_ce = peer("Liger-Kernel", "liger_kernel.transformers.fused_linear_cross_entropy")
liger_dpo = peer("Liger-Kernel's DPO", "liger_kernel.chunked_loss")


def logp_and_entropy(logits, target):
    logp = torch.log_softmax(logits.float(), -1)
    return logp.gather(1, target).squeeze(1), -(logp.exp() * logp).sum(-1)


def logits(rows, vocabulary, dtype, kind):
    shape = f"/{rows}x{vocabulary}/{kind}"
    z = random((rows, vocabulary), -8, 8, dtype)
    target = (torch.arange(rows, device=device) * 31 % vocabulary).unsqueeze(1)
    name = "gpu/token_logp" + shape
    with torch.no_grad():
        report(name, "eager", lambda: logp_and_entropy(z, target))
        compiled = torch.compile(logp_and_entropy)
        report(name, "torch.compile", lambda: compiled(z, target))
        if trl:
            report(name, "TRL (no entropy)", lambda: trl.selective_log_softmax(z, target.squeeze(1)))
    learned = z.requires_grad_(True)
    weight = random((rows,), -1e-3, 1e-3)

    def backward_of(forward):
        def make():
            saved = (forward(learned) * weight).sum()

            def work():
                learned.grad = None
                saved.backward(retain_graph=True)

            return work

        return prepared(make)

    def logp_alone(x):
        return torch.log_softmax(x.float(), -1).gather(1, target).squeeze(1)

    name = "gpu/token_logp_backward" + shape
    report(name, "eager", backward_of(logp_alone))
    report(name, "torch.compile", backward_of(torch.compile(logp_alone)))
    learned.grad = None


def tokens():
    n = 64 << 20
    logp, old, ref = (random((n,), -3, 0) for _ in range(3))
    advantage = random((n,), -1, 1)
    logp.requires_grad_(True)

    def ppo(logp):
        ratio = (logp - old).exp()
        policy = -torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)
        gap = ref - logp
        return (policy + 0.02 * (gap.exp() - gap - 1)).mean()

    def step(f):
        def work():
            logp.grad = None
            f(logp).backward()

        return work

    report("gpu/policy_loss/64M", "eager", step(ppo))
    report("gpu/policy_loss/64M", "torch.compile", step(torch.compile(ppo)))
    with torch.no_grad():
        def whiten(x):
            return (x - x.mean()) * torch.rsqrt(x.var(unbiased=False) + 1e-8)

        report("gpu/whiten/64M", "eager", lambda: whiten(advantage))
        compiled = torch.compile(whiten)
        report("gpu/whiten/64M", "torch.compile", lambda: compiled(advantage))
        for group in (8, 64):
            def by_group(x):
                y = x.view(-1, group)
                return ((y - y.mean(1, keepdim=True)) / (y.std(1, keepdim=True) + 1e-4)).view(-1)

            name = f"gpu/group_advantage/64M/groups_of_{group}"
            report(name, "eager", lambda: by_group(advantage))
            grouped = torch.compile(by_group)
            report(name, "torch.compile", lambda: grouped(advantage))


def gae():
    for rows, width in ((512, 4096), (8, 131072)):
        if width > 10000:
            continue  # a Python loop over the time has no end there
        reward, value = random((rows, width), -1, 1), random((rows, width), -1, 1)

        def loop():
            advantage = torch.empty_like(reward)
            carried = torch.zeros(rows, device=device)
            for t in range(width - 1, -1, -1):
                following = value[:, t + 1] if t + 1 < width else 0
                carried = reward[:, t] + following - value[:, t] + 0.95 * carried
                advantage[:, t] = carried
            return advantage, advantage + value

        with torch.no_grad():
            report(f"gpu/gae/{rows}x{width}", "eager, a loop over the time", loop, repetitions=3)


def dpo():
    pairs, width = 4096, 2048
    chosen, rejected, ref_chosen, ref_rejected = (random((pairs, width), -3, 0) for _ in range(4))
    chosen.requires_grad_(True), rejected.requires_grad_(True)

    def loss(chosen, rejected):
        margin = (chosen.sum(1) - ref_chosen.sum(1)) - (rejected.sum(1) - ref_rejected.sum(1))
        return -torch.nn.functional.logsigmoid(0.1 * margin).mean()

    def step(f):
        def work():
            chosen.grad = rejected.grad = None
            f(chosen, rejected).backward()

        return work

    report("gpu/dpo/4096x2048", "eager", step(loss))
    report("gpu/dpo/4096x2048", "torch.compile", step(torch.compile(loss)))


def linear():
    n, depth, vocabulary = 8192, 4096, 151936
    shape = f"/{n}x{depth}x{vocabulary}/bf16"
    hidden = random((n, depth), -1, 1, torch.bfloat16).requires_grad_(True)
    weight = random((vocabulary, depth), -0.05, 0.05, torch.bfloat16).requires_grad_(True)
    target = torch.arange(n, device=device) * 7919 % vocabulary

    def plain(h, w):
        return torch.nn.functional.cross_entropy((h @ w.t()).float(), target)

    def step(f):
        def work():
            hidden.grad = weight.grad = None
            f(hidden, weight).backward()

        return work

    for name, f in (("eager", plain), ("torch.compile", torch.compile(plain))):
        with torch.no_grad():
            report("gpu/fused_linear_forward" + shape, name, lambda: f(hidden, weight), repetitions=7)
        report("gpu/fused_linear_supervised" + shape, name, step(f), repetitions=7)
    if liger_ce:
        fused = liger_ce.LigerFusedLinearCrossEntropyLoss()
        report("gpu/fused_linear_supervised" + shape, "Liger", step(lambda h, w: fused(w, h, target)), repetitions=7)
    if liger_dpo:
        preference = liger_dpo.LigerFusedLinearDPOLoss(use_ref_model=True)
        ref_hidden, ref_weight = hidden.detach().view(8, n // 8, depth), weight.detach()
        both = hidden.detach().view(8, n // 8, depth).clone().requires_grad_(True)

        def pairs():
            both.grad = weight.grad = None
            found = preference(weight, both, target.view(8, -1), None, ref_hidden, ref_weight, None)
            (found[0] if isinstance(found, tuple) else found).backward()

        report("gpu/fused_linear_dpo" + shape, "Liger (and the reference's product)", pairs, repetitions=5)


for rows, vocabulary, dtype, kind in ((8192, 151936, torch.bfloat16, "bf16"), (16384, 32000, torch.bfloat16, "bf16"),
                                      (16384, 32000, torch.float32, "f32")):
    logits(rows, vocabulary, dtype, kind)
    torch.cuda.empty_cache()
for part in (tokens, gae, dpo, linear):
    part()
    torch.cuda.empty_cache()
