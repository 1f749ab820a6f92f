"""ComfyUI's door to FaceCrafter."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """Called by ComfyUI when it loads the pack; the nodes are imported here and not before."""
    from .nodes import FaceCrafterExtension

    return FaceCrafterExtension()
