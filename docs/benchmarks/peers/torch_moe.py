"""The model vkmoe trains, in PyTorch: tokens per second of whole training steps, or TFLOP/s of one MoE layer.

    python torch_moe.py                                  # CPU, f32, eager; experts in a loop as Hugging Face's Mixtral has them
    python torch_moe.py --grouped --compile              # experts as grouped products, compiled
    python torch_moe.py --device cuda --precision bf16 --config 384,8,6,384,32,4,512,16
    python torch_moe.py --layer 4096,768,768,32,4        # T,d,n,E,K: forward and backward of a layer alone

A step is forward, cross-entropy and SimBal, backward, clipping, AdamW. bf16: autocast over f32 weights in steps, bf16
weights and activations in a layer alone. Tokens are random.
"""
import argparse
import statistics
import time

import torch
import torch.nn.functional as F
from torch import nn

VOCAB, SIMBAL, CLIP, THETA, EPS = 264, 0.1, 1.0, 1e4, 1e-5
WARM_UP = 3
CONFIGS = ["128,4,4,256,8,2,64,12", "128,4,4,128,32,4,64,12", "256,4,4,256,32,4,128,8"]


class Moe(nn.Module):
    def __init__(self, D, F_, E, K, grouped):
        super().__init__()
        self.E, self.K, self.grouped = E, K, grouped
        self.router = nn.Parameter(nn.init.orthogonal_(torch.empty(E, D)))
        self.gate_up = nn.Parameter(torch.randn(E, 2 * F_, D) * 0.02)
        self.down = nn.Parameter(torch.randn(E, D, F_) * 0.02)

    def forward(self, x):
        logits = F.linear(x, self.router)
        weight, expert = logits.float().softmax(-1).topk(self.K)
        weight = (weight / weight.sum(-1, keepdim=True)).to(logits.dtype)
        return self.experts_grouped(x, weight, expert) if self.grouped else self.experts_loop(x, weight, expert)

    def experts_loop(self, x, weight, expert):
        out = torch.zeros_like(x)
        # unbind: one stack in backward instead of a full-sized gradient for every expert
        for e, (gate_up, down) in enumerate(zip(self.gate_up.unbind(), self.down.unbind())):
            token, slot = torch.where(expert == e)
            gate, up = F.linear(x[token], gate_up).chunk(2, dim=-1)
            y = F.linear(F.silu(gate) * up, down) * weight[token, slot, None]
            out.index_add_(0, token, y.to(out.dtype))
        return out

    def experts_grouped(self, x, weight, expert):
        expert = expert.flatten()
        order = expert.argsort(stable=True)
        ends = (expert[:, None] == torch.arange(self.E, device=x.device)).sum(0).cumsum(0).to(torch.int32)
        # autocast does not reach grouped products
        dtype = torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else x.dtype
        gate_up, down = (w.to(dtype).transpose(-2, -1) for w in (self.gate_up, self.down))
        gate, up = torch._grouped_mm(x.to(dtype)[order // self.K], gate_up, offs=ends).chunk(2, dim=-1)
        y = torch._grouped_mm(F.silu(gate) * up, down, offs=ends)
        inverse = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=x.device))
        y = y[inverse].view(-1, self.K, x.shape[-1]) * weight[..., None]
        return y.sum(1).to(x.dtype)


class Block(nn.Module):
    def __init__(self, D, H, F_, E, K, grouped):
        super().__init__()
        self.H = H
        self.norm1, self.norm2 = nn.RMSNorm(D, EPS), nn.RMSNorm(D, EPS)
        self.qkv, self.out = nn.Linear(D, 3 * D, bias=False), nn.Linear(D, D, bias=False)
        self.moe = Moe(D, F_, E, K, grouped)

    def forward(self, x, cos, sin):
        B, S, D = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(B, S, 3, self.H, D // self.H).permute(2, 0, 3, 1, 4)
        q, k = rotate(q, cos, sin).to(v.dtype), rotate(k, cos, sin).to(v.dtype)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).reshape(B, S, D))
        return x + self.moe(self.norm2(x).view(B * S, D)).view(B, S, D)


def rotate(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-b, a), dim=-1) * sin


class Model(nn.Module):
    def __init__(self, D, L, H, F_, E, K, S, grouped):
        super().__init__()
        self.embed = nn.Embedding(VOCAB, D)
        self.blocks = nn.ModuleList(Block(D, H, F_, E, K, grouped) for _ in range(L))
        self.norm, self.head = nn.RMSNorm(D, EPS), nn.Linear(D, VOCAB, bias=False)
        half = D // H // 2
        angle = torch.outer(torch.arange(S), THETA ** (-torch.arange(half) / half)).repeat(1, 2)
        self.register_buffer("cos", angle.cos())
        self.register_buffer("sin", angle.sin())

    def forward(self, tokens):
        x = self.embed(tokens[:, :-1])
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        logits = self.head(self.norm(x)).float()
        return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())

    def simbal(self):
        routers = torch.stack([block.moe.router for block in self.blocks])
        eye = torch.eye(routers.shape[1], device=routers.device)
        return SIMBAL * (routers @ routers.transpose(1, 2) - eye).abs().sum()


def median_time(step, device, runs):
    times = []
    for i in range(WARM_UP + runs):
        start = time.perf_counter()
        step()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[WARM_UP:])


def bench_steps(config, args):
    D, L, H, F_, E, K, S, B = config
    model = Model(D, L, H, F_, E, K, S, args.grouped).to(args.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1, fused=True)
    forward = torch.compile(model) if args.compile else model
    tokens = torch.randint(VOCAB, (B, S + 1), device=args.device)
    first = last = None

    def step():
        nonlocal first, last
        with torch.autocast(args.device, torch.bfloat16, enabled=args.precision == "bf16"):
            last = forward(tokens)
        (last + model.simbal()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        first = last.detach() if first is None else first

    seconds = median_time(step, args.device, args.runs)
    print(f"D {D:4d}  L {L}  H {H}  F {F_:4d}  E {E:3d}  K {K}  S {S:4d}  B {B:3d}  {1e3 * seconds:9.1f} ms  "
          f"{B * S / seconds:9.0f} tokens/s  loss {first:.3f} to {last:.3f}", flush=True)


def bench_layer(shape, args):
    T, d, n, E, K = shape
    dtype = torch.bfloat16 if args.precision == "bf16" else torch.float32
    layer = Moe(d, n, E, K, args.grouped).to(args.device, dtype)
    forward = torch.compile(layer) if args.compile else layer
    x = torch.randn(T, d, device=args.device, dtype=dtype, requires_grad=True)
    grad = torch.randn_like(x)

    def step():
        forward(x).backward(grad)
        x.grad = None
        layer.zero_grad(set_to_none=True)

    seconds = median_time(step, args.device, args.runs)
    print(f"T {T}  d {d}  n {n}  E {E}  K {K}  {1e3 * seconds:9.2f} ms  {18e-12 * T * d * n * K / seconds:8.3f} TFLOP/s", flush=True)


def numbers(text):
    return [int(part) for part in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--grouped", action="store_true", help="experts by torch._grouped_mm instead of a loop")
    parser.add_argument("--config", type=numbers, action="append", metavar="D,L,H,F,E,K,S,B", help="instead of the three; repeatable")
    parser.add_argument("--layer", type=numbers, action="append", metavar="T,d,n,E,K", help="a layer alone; repeatable")
    parser.add_argument("--runs", type=int, default=15, help="timed steps, after 3 that are not")
    args = parser.parse_args()
    # torch.where finds as many tokens as an expert has: without this a compiled loop is cut at every expert
    torch._dynamo.config.capture_dynamic_output_shape_ops = True
    torch.manual_seed(1)
    where = torch.cuda.get_device_name() if args.device == "cuda" else f"{torch.get_num_threads()} threads"
    print(f"PyTorch {torch.__version__}, {args.device} ({where}), {args.precision}, {'compiled' if args.compile else 'eager'}, "
          f"experts {'grouped' if args.grouped else 'in a loop'}")
    for shape in args.layer or []:
        bench_layer(shape, args)
    for config in [] if args.layer else args.config or map(numbers, CONFIGS):
        bench_steps(config, args)


if __name__ == "__main__":
    main()
