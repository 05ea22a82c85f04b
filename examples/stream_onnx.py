"""Stream a sound file through an exported model with numpy, soundfile and onnxruntime, without torch and speechattn.

    python examples/stream_onnx.py model.onnx speech.wav

prints each label as soon as it is final, with its start and stop in seconds. `speechattn.export.export.export` writes
the model; docs/export.md describes its inputs and outputs.
"""

import json
import sys

import numpy as np
import onnxruntime
import soundfile


def stream(session, blocks):
    """Yield the logits [n, C] that are ready after each block of samples, and the pending ones at the end.

    Blocks are as long as the model's push; only the last one may be shorter.
    """
    push, counter, *caches = (
        np.zeros(entry.shape, np.int64 if "int64" in entry.type else np.float32)
        for entry in session.get_inputs()
        if entry.name != "valid"
    )
    names = [entry.name for entry in session.get_inputs()]
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


def labels(logits, facts):
    """Yield (start_s, stop_s, label) of every run of frames with the same best class, as soon as it has ended."""
    classes, stack, rate = json.loads(facts["classes"]), int(facts["stack"]), int(facts["sample_rate"])

    def edge_s(i):
        """Return where output i begins: half way between the centres of its first frame and of the frame before."""
        middle = [max(0, int(facts["first_center"]) + t * int(facts["hop"])) for t in (i * stack - 1, i * stack)]
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
    """Print the labels of a sound file, a line each."""
    session = onnxruntime.InferenceSession(model)
    facts = session.get_modelmeta().custom_metadata_map
    with soundfile.SoundFile(file) as sound:
        if sound.samplerate != int(facts["sample_rate"]) or sound.channels != 1:
            sys.exit(
                f"{file} has {sound.channels} channels of {sound.samplerate} Hz; the model takes one of "
                f"{facts['sample_rate']} Hz. Convert it first."
            )
        for start, stop, label in labels(stream(session, sound.blocks(int(facts["push"]), dtype="float32")), facts):
            if facts["head"] != "ctc" or label != json.loads(facts["classes"])[0]:  # a blank is no label
                print(f"{start:.3f} {stop:.3f} {label}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
