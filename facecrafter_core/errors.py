"""What a user can get wrong. Each message says in one sentence what was expected, what was found and what to do."""


class FaceCrafterError(ValueError):
    """Base of all errors that are the input's, not the program's."""


class PhotoError(FaceCrafterError):
    """A picture cannot be read or used."""


class NoFaceError(FaceCrafterError):
    """No face, or none large enough, was found in a picture."""


class FaceChoiceError(FaceCrafterError):
    """The face that was asked for is not one of those in the picture."""


class LandmarkError(FaceCrafterError):
    """Landmarks have a wrong shape or hold numbers that are not finite."""


class EmotionError(FaceCrafterError):
    """An emotion vector, class or intensity is out of range."""


class AdapterError(FaceCrafterError):
    """An adapter file is missing, damaged, foreign or of another version."""


class ModelError(FaceCrafterError):
    """A model folder is incomplete, or parts and conditions do not fit each other."""


class AssetError(FaceCrafterError):
    """A model file that others publish is missing, is another file, or cannot be had; or what it needs is not installed."""


class OutputError(FaceCrafterError):
    """A result cannot be written."""


class MetricError(FaceCrafterError):
    """Pictures or values cannot be measured or compared."""


class ScheduleError(FaceCrafterError):
    """Keyframes cannot be read, or frames do not fit them."""
