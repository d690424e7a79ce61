"""The recipe `finetune`: a whole pretrained network, trained in PyTorch."""
