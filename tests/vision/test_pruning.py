import torch

from gossamer_vision.pruning import measure_statistics


def test_scores_see_the_statistics_of_their_batches():
    network = torch.nn.Sequential(torch.nn.BatchNorm2d(2, momentum=0.2))
    batches = torch.randn(3, 10, 2, 4, 4, generator=torch.Generator().manual_seed(0)) * 3 + 1
    measure_statistics(network, [*batches])
    torch.testing.assert_close(network[0].running_mean, batches.mean((0, 1, 3, 4)))
    torch.testing.assert_close(network[0].running_var, batches.transpose(1, 2).flatten(2).var(2).mean(0))
    assert network[0].momentum == 0.2
