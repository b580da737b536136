"""Weights from the Hugging Face Hub."""

SECONDS_TO_ANSWER = 5


def fetch_weights(repository: str) -> str:
    """The path of a repository's weights in the Hub's cache, where they are put if they are not there.

    Raises:
      OSError: the weights are not in the cache and cannot be fetched.
    """
    import huggingface_hub
    from huggingface_hub import constants, utils

    cached = huggingface_hub.try_to_load_from_cache(repository, "model.safetensors")
    if isinstance(cached, str):
        return cached
    try:
        # Without a network the download would log six lines and wait half a minute between its tries. This tries once.
        utils.get_session().head(constants.ENDPOINT, timeout=SECONDS_TO_ANSWER)
        return huggingface_hub.hf_hub_download(repository, "model.safetensors")
    except Exception as error:  # of the Hub's client, or of whichever HTTP library it uses: three in its last versions
        reason = " ".join(str(error).split())
        raise OSError(
            f"the weights {repository} are not in the Hugging Face cache and cannot be fetched: give a file instead "
            f"of 'imagenet' ({type(error).__name__}: {reason:.100})"
        ) from error
