import math

import torch

from gossamer_speech import features


def test_stack_takes_every_second_frame_with_its_neighbours():
    frames = torch.arange(4.0)[:, None].expand(4, features.MELS)
    rows = features.stack(frames).unflatten(1, (features.CONTEXT, features.MELS))
    assert rows[..., 0].tolist() == [[0, 0, 0, 1, 2], [0, 1, 2, 3, 3]]
    assert torch.equal(rows, rows[..., :1].expand_as(rows))


def test_stack_keeps_the_bands_in_order():
    frames = torch.randn(1, features.MELS)
    assert torch.equal(features.stack(frames), frames.repeat(1, features.CONTEXT))


def test_log_mel_of_a_tone_peaks_in_its_band_and_has_no_mean():
    time = torch.arange(800) / features.SAMPLE_RATE
    chirp = torch.cat([torch.sin(2 * math.pi * 500 * time), torch.sin(2 * math.pi * 2000 * time)])
    frames = features.log_mel(chirp)
    assert frames.shape == (1 + 1600 // features.HOP, features.MELS)
    assert frames.mean(0).abs().max() < 1e-4
    low, high = frames[3].argmax(), frames[-4].argmax()  # HTK mel: 2595 lg(1 + f / 700), from 60 Hz to 4000 Hz
    mel = [2595 * math.log10(1 + f / 700) for f in (60, 500, 2000, 4000)]
    for found, place in ((low, mel[1]), (high, mel[2])):
        expected = (place - mel[0]) / (mel[3] - mel[0]) * (features.MELS + 1) - 1
        assert abs(float(found) - expected) <= 1


def test_log_mel_does_not_depend_on_loudness():
    samples = torch.randn(2000)
    assert torch.allclose(features.log_mel(samples), features.log_mel(8 * samples), atol=1e-3)


def test_a_recording_shorter_than_a_window_still_has_frames():
    assert features.log_mel(torch.ones(3)).isfinite().all()


def test_noise_is_as_loud_as_asked():
    tone = torch.sin(torch.arange(80_000.0))
    noise = features.add_noise(tone, 10.0, torch.Generator().manual_seed(0)) - tone
    assert math.isclose(10 * math.log10(tone.square().mean() / noise.square().mean()), 10.0, abs_tol=0.1)
