"""A dict of rows in the place of TransferQueue."""

import torch
from transfer_queue import KVBatchMeta
from verl.utils import tensordict_utils as tu


class Queue:
    """Key -> its columns; `get` and `put` stand in for `kv_batch_get` and `kv_batch_put`."""

    def __init__(self):
        self.rows = {}

    def get(self, keys, partition_id, select_fields=None):
        first = self.rows[keys[0]]
        fields = {}
        for name in [n for n in select_fields or first if n in first]:
            column = [self.rows[key][name] for key in keys]
            tensors = isinstance(column[0], torch.Tensor)
            fields[name] = torch.nested.as_nested_tensor(column, layout=torch.jagged) if tensors else column
        return tu.get_tensordict(fields)

    def put(self, keys, partition_id, fields=None, tags=None):
        for name, column in dict(fields.items()).items():
            for key, value in zip(keys, column.unbind(), strict=True):
                self.rows[key][name] = value.clone()
        return KVBatchMeta(keys=list(keys), tags=[{} for _ in keys], partition_id=partition_id)
