"""The shared library by dlopen from another language: plain types at the boundary are enough to train a stack.
usage: ffi.py LIBRARY"""
import ctypes as c
import sys


class Log(c.Structure):
    FN = c.CFUNCTYPE(None, c.c_void_p, c.c_int, c.c_char_p)
    _fields_ = [("fn", FN), ("user", c.c_void_p)]


class ContextDesc(c.Structure):
    _fields_ = [("log", Log), ("device", c.c_char_p), ("cache_dir", c.c_char_p), ("profile_path", c.c_char_p),
                ("validate", c.c_bool), ("timeout_seconds", c.c_uint32)]


class Balance(c.Structure):
    _fields_ = [("simbal", c.c_float), ("lbl", c.c_float), ("lossfree", c.c_float), ("router_z", c.c_float),
                ("lbl_scope", c.c_int), ("lbl_full", c.c_bool)]


class StackConfig(c.Structure):
    _fields_ = [(name, c.c_uint32) for name in
                ("d_in", "d_out", "d_model", "layers", "experts", "top_k", "d_expert", "d_shared")] + [
        ("gate", c.c_int), ("norm_topk", c.c_bool), ("norm_eps", c.c_float), ("precision", c.c_int), ("batch", c.c_uint32),
        ("rows", c.c_uint32), ("no_training", c.c_bool), ("seed", c.c_uint64), ("router_init", c.c_int), ("loss", c.c_int),
        ("no_balance", c.c_bool), ("balance", Balance), ("lr", c.c_float), ("beta1", c.c_float), ("beta2", c.c_float),
        ("eps", c.c_float), ("weight_decay", c.c_float), ("clip", c.c_float)]


class Report(c.Structure):
    _fields_ = [("step", c.c_uint64), ("loss", c.c_float), ("simbal_loss", c.c_float), ("lbl_loss", c.c_float),
                ("router_z_loss", c.c_float), ("grad_norm", c.c_float), ("skipped", c.c_bool), ("skipped_total", c.c_uint64),
                ("loss_scale", c.c_float), ("layers", c.c_uint32), ("experts", c.c_uint32),
                ("expert_tokens", c.POINTER(c.c_uint32))]


lines = []
log = Log(Log.FN(lambda user, level, line: lines.append(line.decode())), None)
lib = c.CDLL(sys.argv[1])
lib.vkmoe_version.restype = c.c_char_p


def call(name, *args):
    status = getattr(lib, name)(*args)
    assert status == 0, f"{name}: {status}: {lines[-1:]}"


ctx, stack = c.c_void_p(), c.c_void_p()
call("vkmoe_context_create", c.byref(ContextDesc(log=log)), c.byref(ctx))
bad = lib.vkmoe_stack_create(ctx, c.byref(StackConfig(experts=2, top_k=3)), c.byref(stack))
assert bad == 1 and not stack and "top_k" in lines[-1], (bad, lines)
call("vkmoe_stack_create", ctx, c.byref(StackConfig(d_in=2, d_out=1, batch=64, lr=1e-2)), c.byref(stack))
points = [(x / 4 - 1, y / 4 - 1) for x in range(8) for y in range(8)]
rows = (c.c_float * 128)(*[v for point in points for v in point])
target = (c.c_float * 64)(*[x * y for x, y in points])
report, losses = Report(), []
for step in range(60):
    call("vkmoe_stack_step", stack, rows, target, c.byref(report))
    losses.append(report.loss)
assert report.step == 60 and report.experts == 8 and sum(report.expert_tokens[:8]) == 128, report.step
assert losses[-1] < losses[0] / 4, losses
lib.vkmoe_stack_destroy(stack)
lib.vkmoe_context_destroy(ctx)
print(f"vkmoe {lib.vkmoe_version().decode()}: loss {losses[0]:.3g} -> {losses[-1]:.3g}")
print("1 passed, 0 failed")
