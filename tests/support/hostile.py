"""Objects that are no help to whoever asks what they are."""


class Hostile:
    """Raises where it is asked for `what`, or has something there that is of no use."""

    def __init__(self, what, answer):
        self.what, self.answer = what, answer

    def __getattribute__(self, name):
        if name != object.__getattribute__(self, "what"):
            return object.__getattribute__(self, name)
        answer = object.__getattribute__(self, "answer")
        if isinstance(answer, BaseException):
            raise answer
        return answer


def hostile(what, answer):
    """With it on the class too, where Python looks for special methods."""
    if isinstance(answer, BaseException):

        def method(self, *arguments, **keywords):
            raise answer
    else:
        method = answer
    return type("Hostile", (Hostile,), {what: method} if what.startswith("__") else {})(what, answer)


NO_FUNCTION = [RuntimeError("on strike"), 7, None]
