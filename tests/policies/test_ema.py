import pytest
import torch

from policies.ema import Ema, ema_decay


@pytest.mark.parametrize(("updates", "decay"), [(0, 0.0), (1, 0.0), (2, 1 - 2**-0.75), (11, 1 - 11**-0.75)])
def test_the_decay_follows_the_published_formula(updates, decay):
    assert ema_decay(updates) == pytest.approx(decay)


def test_the_decay_grows_to_its_maximum_and_stays():
    values = [ema_decay(n) for n in range(0, 400_000, 500)]
    assert values == sorted(values)
    assert values[-1] == 0.9999


def test_the_average_follows_the_recursion():
    live = torch.nn.Linear(2, 1, bias=False)
    ema = Ema(live)
    expected = live.weight.detach().clone()
    for t in range(6):
        with torch.no_grad():
            live.weight.add_(torch.tensor([[1.0, -t]]))
        ema.update()
        d = ema_decay(t)
        expected = d * expected + (1 - d) * live.weight.detach()
    torch.testing.assert_close(ema.model.weight, expected)
    assert not ema.model.weight.requires_grad
