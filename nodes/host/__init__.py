"""The only room that touches ComfyUI's internals: the demo base, managed adapter weights, identity contexts, branches, guidance.

base.py          diffusers weights of the demo base -> ComfyUI's MODEL, CLIP and VAE
adapter.py       adapter files, their folder, and their weights under ComfyUI's memory management
networks.py      other networks under ComfyUI's memory management
contexts.py      identity -> CONDITIONING through the host's CLIP, with the control tokens beside it
attention.py     Eq. 1 in the MODEL's 16 cross-attention layers
guidance.py      Eq. 6 for a guider and for the MODEL-level path
counts.py        how many pictures a sampling run makes
run.py           one sampling run
acceptance.py    licences that a person has accepted in the editor
"""
