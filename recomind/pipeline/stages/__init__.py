"""What each stage does, a file each; `recomind.pipeline.registry` names them."""
