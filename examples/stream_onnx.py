"""Streams a sound file through an exported model: numpy, soundfile and onnxruntime, without torch and speechattn.

    python examples/stream_onnx.py model.onnx speech.wav

prints each label as soon as it is certain, with the seconds where it begins and ends. `speechattn.export.export`
makes the
model; docs/export.md says what its inputs and outputs are.
"""

import json
import sys

import numpy as np
import onnxruntime
import soundfile


def stream(session, blocks):
    """The logits [n, C] that each block of samples makes certain, and at the end those still owed.

    Blocks are as long as the model's push, only the last one is shorter.
    """
    push, counter, *caches = (
        np.zeros(told.shape, np.int64 if "int64" in told.type else np.float32)
        for told in session.get_inputs()
        if told.name != "valid"
    )
    names = [told.name for told in session.get_inputs()]
    ended = False
    while True:
        samples = next(blocks, push[0, :0])
        ended = ended or len(samples) < push.shape[1]
        push[:] = 0
        push[0, : len(samples)] = samples
        feeds = dict(zip(names, [push, np.array(len(samples)), counter, *caches], strict=True))
        logits, (first, stop), counter, *caches = session.run(None, feeds)
        yield logits[0, first:stop]
        if ended and stop < logits.shape[1]:
            return


def labels(logits, told):
    """(start_s, stop_s, label) of every run of frames with the same best class, as soon as the run has ended."""
    classes, stack, rate = json.loads(told["classes"]), int(told["stack"]), int(told["sample_rate"])

    def edge_s(i):
        """Where output i begins: half way between the middle of its first frame and of the frame before."""
        middle = [max(0, int(told["first_center"]) + t * int(told["hop"])) for t in (i * stack - 1, i * stack)]
        return (sum(middle) + 1) // 2 / rate if i else 0.0

    count, begun, current = 0, 0, None
    for best in (c for frames in logits for c in frames.argmax(1)):
        if best != current and current is not None:
            yield edge_s(begun), edge_s(count), classes[current]
        if best != current:
            begun, current = count, best
        count += 1
    if current is not None:
        yield edge_s(begun), edge_s(count), classes[current]


def main(model, file):
    session = onnxruntime.InferenceSession(model)
    told = session.get_modelmeta().custom_metadata_map
    with soundfile.SoundFile(file) as sound:
        if sound.samplerate != int(told["sample_rate"]) or sound.channels != 1:
            sys.exit(
                f"{file} has {sound.channels} channels of {sound.samplerate} Hz; the model hears one of "
                f"{told['sample_rate']} Hz. Convert it first."
            )
        for start, stop, label in labels(stream(session, sound.blocks(int(told["push"]), dtype="float32")), told):
            if told["head"] != "ctc" or label != json.loads(told["classes"])[0]:  # a blank is no label
                print(f"{start:.3f} {stop:.3f} {label}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
