/* A stand-in for libnccl: the calls that comm/nccl uses (comm/nccl/abi.h), between processes of one
 * host over shared memory, so that the transport is executed on every machine. It is loaded like
 * the real one, by a path (--nccl-library).
 *
 * As with NCCL: a group is one operation of its communicator and its stream, done when all in it
 * are; groups of a communicator run one after the other; what a sender may be ahead of its receiver
 * is limited (a ring of some KiB for each pair), so that a wrong order of groups hangs; a call may
 * be in progress when it returns, and the communicator must not be used before it is not. A peer
 * that aborts or dies shows as a remote error. Other than NCCL, it only moves when it is called, or
 * when somebody looks at the stream. What moves first, how much, and for how long a call is in
 * progress, is shuffled by a seed.
 *
 * What NCCL leaves undefined ends the process with a message (nccl_emu: ..., SIGABRT): a group that
 * is not closed, other calls meanwhile or while in progress, a send and a receive of different
 * sizes, use after abort or destroy, destroy without finalize or with open operations, leaving the
 * process with an open group or a living communicator.
 *
 * Steered by the variable NCCL_EMU of the environment, read when a communicator is made and by
 * ncclGetVersion:
 *
 *     seed=N,version=N,ring=BYTES,rank=R,after=N,do=FAULT
 *
 * FAULT, on rank R, when it has posted N sends and receives:
 *     error:CODE   the communicator has this asynchronous error (ncclResult_t)
 *     silent       nothing moves to and from this rank any more, and nobody says so
 *     hang         as silent, and ncclCommAbort never returns
 *     init_hang    the communicator never comes up (after is not looked at)
 *     init_error   it fails instead
 *
 * The program offers the function below by its name (a program linked with exported symbols). */
#ifndef SHOAL_TESTS_NCCL_EMU_H
#define SHOAL_TESTS_NCCL_EMU_H

typedef int nccl_emu_ready_fn(void *arg);

/* Nothing that is enqueued on the stream behind this happens before ready(arg) is true. It may be
 * called as often as somebody looks at the stream, never after it was true. */
#define NCCL_EMU_HOLD "emu_stream_hold"
typedef void nccl_emu_hold_fn(void *stream, nccl_emu_ready_fn *ready, void *arg);

#endif
