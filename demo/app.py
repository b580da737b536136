"""The page as a Space at Hugging Face: `jaxcam serve`, at the address and the port that a Space expects."""

import jaxcam.web

if __name__ == "__main__":
    jaxcam.web.serve(host="0.0.0.0", port=7860)
