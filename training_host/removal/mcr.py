"""MCR, mode connectivity repair: walk along a curve of good networks from the stolen one to a fine-tuned copy.

Zhao et al., ICLR 2020, section 3; the curve is a quadratic Bezier (Garipov et al., NeurIPS 2018).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as nn_functional

from training_host.nets.layers import norms_of
from training_host.removal.base import MODIFICATION, Stolen, Thief
from training_host.training.augment import small_moves, to_batch
from training_host.training.loop import estimate_batch_norm
from training_host.training.supervised import clean_batches
from training_host.training.tuning import FEW, Tuning, some_of, true_labels, tune


@dataclass(frozen=True)
class MCR:
    """The copy is fine-tuned for `copy_epochs`; then the curve's middle is trained for `epochs`, both by SGD at `lr` on
    a `share` of the pictures. `at` (0..1) is the place on the curve: 0 the stolen network, 1 the copy.
    """

    share: float = 0.2
    copy_epochs: int = 10
    epochs: int = 20
    lr: float = 0.01
    at: float = 0.3

    @property
    def kind(self) -> str:
        """`MODIFICATION`."""
        return MODIFICATION

    def steal(self, thief: Thief) -> Stolen:
        """The network at that place, its statistics re-estimated."""
        device = thief.device
        first, second = copy.deepcopy(thief.network), copy.deepcopy(thief.network)
        data = some_of(thief.pictures, self.share, thief.rng())
        loss_of, tuning = true_labels(second, data, device), Tuning(self.copy_epochs, self.lr)
        tune(second, data, loss_of, tuning, device, thief.seed, progress=thief.progress)
        device.place(first)
        names = [name for name, value in first.named_parameters() if value.requires_grad]
        ends = [{name: net.get_parameter(name).detach().clone() for name in names} for net in (first, second)]
        network = copy.deepcopy(first)
        middle = {name: ((ends[0][name] + ends[1][name]) / 2).requires_grad_() for name in names}
        images, labels = torch.from_numpy(data.images), torch.from_numpy(data.labels).to(device.name)

        def at(place: float) -> dict[str, torch.Tensor]:
            a, b, c = (1 - place) ** 2, 2 * place * (1 - place), place**2
            return {name: a * ends[0][name] + b * middle[name] + c * ends[1][name] for name in names}

        def curve_loss(indices: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
            place = float(torch.rand((), generator=generator))
            batch = small_moves(to_batch(images[indices], device.name), generator)
            logits = torch.func.functional_call(network, at(place), (batch,))
            return nn_functional.cross_entropy(logits.float(), labels[indices])

        tune(
            network,
            data,
            curve_loss,
            Tuning(self.epochs, self.lr),
            device,
            thief.seed + 1,
            parameters=list(middle.values()),
            progress=thief.progress,
        )
        network.load_state_dict({**network.state_dict(), **{name: v.detach() for name, v in at(self.at).items()}})
        if norms_of(network):
            images_for_norms = data.images if len(data) >= FEW else thief.pictures.images
            estimate_batch_norm(network, clean_batches(images_for_norms, device), device)
        return Stolen.of(network.eval(), device)
