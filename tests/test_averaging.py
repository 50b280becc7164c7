import lightning as L
import pytest
import torch
from diffusers.training_utils import EMAModel
from torch import nn

from h2d.averaging import Averaging


class Falling(L.LightningModule):
    """A weight that falls by one at each step."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))

    def training_step(self, batch):
        return self.weight.sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)


def fit(steps, decay, folder, **more):
    module, averaging = Falling(), Averaging(decay)
    data = torch.utils.data.DataLoader(torch.zeros(100, 1), batch_size=1)
    silent = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = L.Trainer(max_steps=steps, callbacks=[averaging], default_root_dir=folder, **silent)
    trainer.fit(module, data, **more)
    trainer.save_checkpoint(folder / f"{steps}.ckpt")
    return averaging._average_model.module.weight.detach()


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.999])
def test_the_average_is_that_of_diffusers(decay, tmp_path):
    weight = nn.Parameter(torch.zeros(2))
    peer = EMAModel([weight], decay=decay)
    for _ in range(60):
        weight.data -= 1
        peer.step([weight])
    average = fit(60, decay, tmp_path)
    torch.testing.assert_close(average, peer.shadow_params[0].detach(), rtol=1e-5, atol=0)
    assert -60 <= average[0] < -50, "the weights that training began with are forgotten, whatever the decay"


def test_a_resumed_run_has_the_average_of_one_that_was_not_stopped(tmp_path):
    whole = fit(30, 0.999, tmp_path)
    fit(11, 0.999, tmp_path)
    resumed = fit(30, 0.999, tmp_path, ckpt_path=tmp_path / "11.ckpt", weights_only=True)
    assert torch.equal(whole, resumed)
