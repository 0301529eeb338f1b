"""The explanation methods by name: which packages each needs, and where it runs.

`explain.methods` has the functions. The names are kept here because the command line
and the session's queue use them without importing numpy.
"""

from dataclasses import dataclass

from edgecell.optional import require


@dataclass(frozen=True)
class Explainer:
    """What is known of a method before it is imported.

    Attributes:
        deferred: it takes many inferences, so the camera loop queues it.
        modules: modules that it imports when it is called.
        extra: the extra that installs them; empty if the device install is enough.
    """

    deferred: bool = False
    modules: tuple[str, ...] = ()
    extra: str = ""


EXPLAINERS: dict[str, Explainer] = {
    "grad-cam": Explainer(),
    "finer-cam": Explainer(),
    "grad-cam++": Explainer(),
    "layer-cam": Explainer(),
    "lime": Explainer(True, ("lime.lime_base", "skimage.segmentation"), "explain"),
    "kernel-shap": Explainer(True, ("shap", "skimage.segmentation"), "shap"),
    "partition-shap": Explainer(True, ("shap",), "shap"),
}
DEFERRED = tuple(name for name, method in EXPLAINERS.items() if method.deferred)
ON_DEVICE = tuple(name for name, method in EXPLAINERS.items() if not method.deferred)


def check_installed(method: str) -> None:
    """Imports what a method needs, before long work.

    Raises:
        MissingPackageError: one of its packages is not installed.
    """
    needs = EXPLAINERS[method]
    for module in needs.modules:
        require(module, needs.extra)
