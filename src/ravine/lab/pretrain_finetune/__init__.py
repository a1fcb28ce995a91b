"""Does a model that was pre-trained with one optimizer do worse when it is post-trained with another?"""

from ravine.lab.pretrain_finetune.run import PretrainFinetune, prepare

__all__ = ["PretrainFinetune", "prepare"]
