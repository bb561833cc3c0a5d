"""A script of PyTorch's DistributedDataParallel that sends coded gradients: three lines are pdcode's.

    torchrun --nproc-per-node 2 train.py

With the delays and the link of delays.toml:

    torchrun --nproc-per-node 2 -m pdcode.torch.gloo delays.toml train.py
"""

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pdcode.torch import ddp  # 1

torch.set_num_threads(1)
dist.init_process_group("gloo")
torch.manual_seed(1)
images, labels = load_digits(return_X_y=True)
x, y = torch.from_numpy(images / 16).float().view(-1, 1, 8, 8), torch.from_numpy(labels)
network = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
    nn.MaxPool2d(2), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10),
)  # fmt: skip
model = DistributedDataParallel(network)
coded = ddp.Coded(model)  # 2
model.register_comm_hook(coded, ddp.hook)  # 3
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5, nesterov=True)
schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, 100)  # whitened steps do not shrink alone
random = torch.Generator().manual_seed(dist.get_rank())
for update in range(1, 151):
    rows = torch.randint(len(x), (16,), generator=random)
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
    optimizer.step()
    schedule.step()
    if update % 10 == 0:
        with torch.no_grad():
            loss = nn.functional.cross_entropy(network(x[::3]), y[::3]).item()
        if dist.get_rank() == 0:
            print(f"{update:4} updates, loss {loss:.3f}, {coded.bytes / update:,.0f} bytes each", flush=True)
        if loss < 0.1:  # the same on all ranks
            break
gradient = sum(4 * each.numel() for each in network.parameters())
if dist.get_rank() == 0:
    print(f"1/{gradient * update / coded.bytes:.0f} of the bytes of the gradient")
dist.destroy_process_group()
